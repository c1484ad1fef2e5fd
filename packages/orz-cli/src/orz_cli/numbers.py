"""Numbers on the command line: what stands for one in help, and what was expected where something else was given."""

from __future__ import annotations

import math
import re
from typing import Any, Final

from orz_cli.errors import UsageError

_KINDS: Final = {"int", "int range", "float", "float range"}
"""What typer calls types of numbers, without and with limits."""
PLACEHOLDERS: Final = {"int": "N", "float": "NUMBER"}
"""What stands for a number of a type, whatever its limits, in help and in the pages of commands."""
_REFUSED: Final = re.compile(
    r"(?P<got>.*) is not (?:a valid (?:int|float)(?: range)?|in the range .*)\.", flags=re.DOTALL
)
"""What typer says of a number that it refuses; a text is quoted in it, a number beyond the limits is not."""


def finite(context: Any, parameter: Any, value: float | None) -> float | None:
    """Return the number that an option was given, as the `callback` of it: NaN passes every `min` and `max`.

    Args:
        context: typer's, of the command.
        parameter: the option.
        value: what it was given; None where it was not given.

    Raises:
        UsageError: it is NaN or infinite.
    """
    if value is None or math.isfinite(value):
        return value
    raise _unexpected(parameter, str(value), context.command_path)


def placeholder(kind: Any) -> str:
    """Return what stands for a value of one of typer's types of numbers in help; empty for another type.

    Example:
        >>> from types import SimpleNamespace
        >>> placeholder(SimpleNamespace(name="int range"))
        'N'
    """
    return PLACEHOLDERS.get(kind.name.removesuffix(" range"), "")


def refused_number(parameter: Any, message: str, command: str) -> UsageError | None:
    """Return the error for a number that typer refused; None where it refused something else.

    Args:
        parameter: the option or argument; None where typer names none.
        message: what typer says of the value.
        command: the command as it was called, as `orz ckpt merge`.
    """
    match = _REFUSED.fullmatch(message)
    if parameter is None or match is None or parameter.type.name not in _KINDS:
        return None
    return _unexpected(parameter, match["got"], command)


def _unexpected(parameter: Any, got: str, command: str) -> UsageError:
    is_option = parameter.param_type_name == "option"
    name = "/".join(parameter.opts) if is_option else parameter.human_readable_name
    return UsageError(f"{name}: expected {_expected(parameter.type)}, got {got}", remedy=f"{command} --help")


def _expected(kind: Any) -> str:
    """Return in words what numbers a type takes, as "a whole number from 1 to 64"."""
    least, most = getattr(kind, "min", None), getattr(kind, "max", None)
    is_whole = kind.name.startswith("int")
    if least is not None and most is not None:
        return f"{'a whole number' if is_whole else 'a number'} from {least:,} to {most:,}"
    words = "a whole number" if is_whole else "a finite number"
    if least is not None:
        return f"{words} of at least {least:,}"
    return words if most is None else f"{words} of at most {most:,}"
