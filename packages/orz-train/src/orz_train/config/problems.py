"""What is wrong with a configuration, and where it was written; all of it in one error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orz_train.errors import ConfigError

Key = tuple[str, ...]
"""Path of a setting: `("policy", "optimizer", "lr")` for `policy.optimizer.lr`."""

MAX_SHOWN = 60
"""Characters of a wrong value that a message quotes."""


def dotted(key: Key) -> str:
    """Join a path the way users write it."""
    return ".".join(key)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a setting was written: a file and line, or an argument of the command line."""

    source: str
    line: int | None = None
    """Counted from 1; None where there are no lines."""

    def __str__(self) -> str:
        return self.source if self.line is None else f"{self.source}:{self.line}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to correct.

    Example:
        >>> str(Problem(Origin("my.yaml", 3), "steps", "got 'x', expected a whole number above 0"))
        "my.yaml:3: steps: got 'x', expected a whole number, above 0"
    """

    origin: Origin | None
    key: str
    message: str

    def __str__(self) -> str:
        return ": ".join(part for part in (str(self.origin or ""), self.key, self.message) if part)


def as_error(problems: Sequence[Problem], *, subject: str) -> ConfigError:
    """Return one error that lists every problem.

    Args:
        problems: one at least, in the order in which they are listed.
        subject: what they are problems of, such as a recipe's name.
    """
    if len(problems) == 1:
        return ConfigError(str(problems[0]))
    lines = "\n".join(f"  {problem}" for problem in problems)
    return ConfigError(f"{len(problems)} problems in {subject}:\n{lines}")


def shown(value: object) -> str:
    """Write a value as YAML users know it, shortened: `null`, `true`, `'text'`, `a list`, `a mapping`."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case dict():
            return "a mapping"
        case list() | tuple():
            return f"a list of {len(value)}"
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 3]}..."
