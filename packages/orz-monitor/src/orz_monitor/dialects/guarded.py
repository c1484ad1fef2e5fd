"""A dialect of a user's: what it raises is told as its fault, with the place that it was reading."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

from orz_cli.errors import OrzError, UsageError
from orz_monitor.dialects.base import Dialect
from orz_monitor.log import Log
from orz_monitor.printable import one_line
from orz_monitor.transport.lines import Line

_ASKED: Final = ("__init__", "read", "more", "scan", "settle", "finish", "meaning", "number", "number_rows")
"""Methods that a reader calls."""


class DialectError(UsageError):
    """A dialect of a user's is wrong, or raised something; no run was read.

    Attributes:
        place: `file:line` of what it was reading, as the message has it; empty where that is not known.
    """

    def __init__(self, message: str, *, remedy: str = "correct the dialect, or leave it out", place: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.place = place

    def further_down(self, num_lines: int) -> DialectError:
        """Return the same of a file of which so many lines stand before what was read."""
        file, colon, line = self.place.rpartition(":")
        if not colon:
            return self
        place = f"{file}:{int(line) + num_lines}"
        return DialectError(self.message.replace(self.place, place, 1), remedy=self.remedy, place=place)


def guarded(kind: type[Dialect], where: str) -> type[Dialect]:
    """Return a dialect that does as this one and raises nothing but our own errors.

    It keeps its module and name, by which a second process imports the dialect itself.

    Args:
        kind: the dialect.
        where: who named it, for messages: `--dialect mine:Mine`.

    Raises:
        DialectError: it has no name, or no gates.
    """
    if not isinstance(getattr(kind, "name", None), str) or not kind.name:
        raise DialectError(f'{where}: it has no name, such as `name = "mine"`')
    gates = getattr(kind, "gates", None)
    if not isinstance(gates, tuple) or not gates or not all(isinstance(gate, bytes) and gate for gate in gates):
        raise DialectError(f'{where}: its gates are no tuple of bytes, such as `gates = (b"STEP ",)`')
    same = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
    methods = {name: _told(getattr(kind, name), where) for name in _ASKED}
    return cast("type[Dialect]", type(kind.__name__, (kind,), {**same, **methods}))


def _told(method: Callable[..., Any], where: str) -> Callable[..., Any]:
    """Wrap a method so that whatever it raises is told as the dialect's fault."""

    def told(self: Dialect, *given: Any) -> Any:
        try:
            return method(self, *given)
        except OrzError:
            raise
        except Exception as error:  # a user's dialect raises what it likes
            file, line = _place_of(given)
            place = f"{file}:{line}" if file and line else ""
            at = f" on {place or file}" if file else ""
            message = f"{where}: raised {type(error).__name__}{at}: {one_line(str(error))}"
            raise DialectError(message, place=place) from error

    return told


def _place_of(given: tuple[object, ...]) -> tuple[str, int]:
    """Return the file and line that the arguments of a call are from; empty and 0 where they don't tell."""
    log = next((value for value in given if isinstance(value, Log)), None)
    line = next((value.number for value in given if isinstance(value, Line)), 0)
    return one_line(str(log.files[-1].path)) if log is not None and log.files else "", line
