"""A dialect of a user's: what it raises is told as its fault, with the place that it was reading."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, cast

from orz_cli.errors import OrzError, UsageError
from orz_monitor.dialects.base import Dialect
from orz_monitor.dialects.contract import WRONG_ANSWER, WrongAnswer, wrong_class
from orz_monitor.dialects.wrong_entries import wrong_entry
from orz_monitor.log import Log
from orz_monitor.printable import one_line
from orz_monitor.transport.lines import Line

_ASKED: Final = (
    "__init__",
    "hide",
    "read",
    "more",
    "cut",
    "scan",
    "settle",
    "pause",
    "finish",
    "go_on",
    "look_back",
    "plan",
    "meaning",
    "number",
    "number_rows",
)
"""Methods that a reader calls."""
_CORRECT: Final = "correct the dialect, or leave it out"


class DialectError(UsageError):
    """A dialect of a user's is wrong, or raised something; no run was read.

    Attributes:
        place: `file:line` of what it was reading, as the message has it; empty where that is not known.
    """

    def __init__(self, message: str, *, remedy: str = _CORRECT, place: str = "") -> None:
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
        DialectError: it can't read: no name, no gates, nothing that reads, or another attribute is wrong.
    """
    if wrong := wrong_class(kind):
        raise DialectError(f"{where}: {one_line(wrong)}")
    same = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
    methods: dict[str, Any] = {name: _told(getattr(kind, name), where, WRONG_ANSWER.get(name)) for name in _ASKED}
    methods["is_unsure"] = property(_told(lambda self: super(guard, self).is_unsure, where))
    guard = cast("type[Dialect]", type(kind.__name__, (kind,), {**same, **methods}))
    return guard


def _told(method: Callable[..., Any], where: str, wrong_answer: WrongAnswer | None = None) -> Callable[..., Any]:
    """Wrap a method so that whatever it raises, and an answer that is none, is told as the dialect's fault."""

    def told(self: Dialect, *given: Any) -> Any:
        log = next((value for value in given if isinstance(value, Log)), None)
        num_before = len(log.entries) if log is not None else 0
        try:
            answer = method(self, *given)
        except (OrzError, KeyboardInterrupt):
            raise
        except BaseException as error:  # a user's dialect raises what it likes, and SystemExit must not end a command
            raise _of_raised(error, where, type(self).__module__, given) from error
        if wrong_answer is not None and (wrong := wrong_answer(self, given, answer)):
            raise DialectError(f"{where}: {one_line(wrong)}")
        if log is not None and (wrong := wrong_entry(log.entries[max(num_before - 1, 0) :])):  # the last may be new
            shown, place = _place_of(given)
            raise DialectError(f"{where}: {one_line(wrong)}{f', on {shown}' if shown else ''}", place=place)
        return answer

    return told


def _of_raised(error: BaseException, where: str, module: str, given: tuple[object, ...]) -> DialectError:
    """Return what tells that a call with these arguments raised something."""
    shown, place = _place_of(given)
    at = f" on {shown}" if shown else ""
    said = f": {one_line(str(error))}" if str(error) else ""
    message = f"{where}: raised {type(error).__name__}{at}{said}"
    return DialectError(message, remedy=_remedy(error, module), place=place)


def _place_of(given: tuple[object, ...]) -> tuple[str, str]:
    """Return what the arguments of a call are from, as far as they tell, and the same where that is `file:line`."""
    log = next((value for value in given if isinstance(value, Log)), None)
    line = next((value.number for value in given if isinstance(value, Line)), 0)
    file = one_line(str(log.files[-1].path)) if log is not None and log.files else ""
    place = f"{file}:{line}" if file and line else ""
    return place or file, place


def _remedy(error: BaseException, module: str) -> str:
    """Name the line of the dialect's module that an error came from or through, where there is one."""
    file = getattr(sys.modules.get(module), "__file__", None)
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    if file is None or not lines:
        return _CORRECT
    path = Path(file)
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return f"correct {one_line(str(shown))}:{lines[-1]}, or leave the dialect out"
