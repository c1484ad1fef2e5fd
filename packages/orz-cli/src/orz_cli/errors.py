"""The root of the error trees of all orz packages."""

from __future__ import annotations

from typing import ClassVar

from orz_cli.exits import ExitCode


class OrzError(Exception):
    """An error that a user can act on.

    Its text says what is wrong, where, what was found and expected, and what to do next. `orz` prints
    that text without a traceback and leaves with `exit_code`. Subclasses also derive from the built-in
    exception they specialise (`ConfigError(OrzError, ValueError)`), so library users can catch either.

    Args:
        message: what is wrong, and where; one or two sentences.
        remedy: what to do next; printed on a line of its own.
    """

    exit_code: ClassVar[ExitCode] = ExitCode.FAILED

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}\n  -> {self.remedy}" if self.remedy else self.message

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, self.remedy))


class UsageError(OrzError, ValueError):
    """The command line or a setting is wrong; nothing was started."""

    exit_code = ExitCode.USAGE


def _rebuild(cls: type[OrzError], message: str, remedy: str) -> OrzError:
    """Rebuild a pickled error; keyword-only arguments do not survive the default protocol."""
    return cls(message, remedy=remedy)
