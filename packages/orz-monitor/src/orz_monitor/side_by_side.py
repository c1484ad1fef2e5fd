"""Whether two logs were written side by side, as by processes, or one after the other, as parts of one log."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from orz_monitor.transport.ansi import without_escapes
from orz_monitor.transport.clock import as_epoch

_LOOKED_AT_BYTES: Final = 16 << 10
"""At either end of a file."""
_TIME: Final = re.compile(rb"^\W{0,3}(?:[A-Z]{4,8}\W{1,3})?(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d.{0,12})", re.MULTILINE)
"""At the beginning of a line, in brackets and behind a level too."""
_STEP: Final = re.compile(rb"(?:step|iter(?:ation)?)['\"]?[ :=/#]{1,3}(\d{1,15})\b", re.IGNORECASE)


def side_by_side(before: Path, log: Path) -> bool | None:
    """Tell whether a log was begun before half of another one was written; None where that can't be told.

    Clock times at the beginnings of lines decide. Without them a log whose first step is beyond the other's was
    written after it; the same first step may also be of a restart, and is not decided.

    Args:
        before: a plain file that may be the earlier part.
        log: the plain file that may go on where it ends.
    """
    with suppress(OSError):
        head, tail, new = _ends(before), _ends(before, at_end=True), _ends(log)
        begun, ended, new_begun = _first_time(head), _last_time(tail), _first_time(new)
        if begun is not None and ended is not None and new_begun is not None:
            return new_begun < (begun + ended) / 2
        first, second = _STEP.search(head), _STEP.search(new)
        if first is not None and second is not None and int(second[1]) > int(first[1]):
            return False
    return None


def _ends(path: Path, *, at_end: bool = False) -> bytes:
    """Return the first bytes of a file, or the last ones, without escapes."""
    with path.open("rb") as file:
        if at_end:
            file.seek(max(0, path.stat().st_size - _LOOKED_AT_BYTES))
        return without_escapes(file.read(_LOOKED_AT_BYTES))


def _times(text: bytes) -> Iterator[float]:
    """Yield the times that lines begin with, in seconds since the Unix epoch."""
    for match in _TIME.finditer(text):
        if (time := as_epoch(match[1].decode("ascii", "replace"))) is not None:
            yield time


def _first_time(text: bytes) -> float | None:
    """Return the first time in a text."""
    return next(_times(text), None)


def _last_time(text: bytes) -> float | None:
    """Return the last time in a text."""
    return max(_times(text), default=None)
