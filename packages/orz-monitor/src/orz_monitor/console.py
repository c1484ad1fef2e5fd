"""The end of a console log: did the run die, and of what."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TAIL_BYTES: Final = 64 << 10
_ANSI: Final = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f]")
_INSIDE: Final = (" ", "\t", "│", "╭", "╰", "|", "+")
"""What lines within a traceback begin with: indentation, rich's boxes, exception groups."""
_LINES_AFTER: Final = 20
"""A log that goes on for longer than this after a traceback has survived it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Traceback:
    """An exception at the end of a log.

    Attributes:
        path: the log.
        line: number of its last line, from 1.
        exception: its last line, such as `ValueError: ...`.
    """

    path: Path
    line: int
    exception: str


def last_traceback(path: Path) -> Traceback | None:
    """Find a Python traceback at the very end of a log; None if there is none or the log went on after it.

    Looks at the last 64 KiB only.

    Raises:
        OSError: the log can't be read.
    """
    lines, before = _tail(path)
    start = next((i for i in reversed(range(len(lines))) if "Traceback (most recent call last)" in lines[i]), None)
    if start is None:
        return None
    for index in range(start + 1, len(lines)):
        if lines[index] and not lines[index].startswith(_INSIDE):
            survived = len(lines) - 1 - index > _LINES_AFTER
            found = Traceback(path=path, line=before + index + 1, exception=lines[index][:300])
            return None if survived else found
    return Traceback(path=path, line=before + start + 1, exception="the log ends within a traceback")


def _tail(path: Path) -> tuple[list[str], int]:
    """Return the last lines of a log, as a terminal would show them, and how many lines are before them."""
    with path.open("rb") as file:
        skipped = max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES)
        file.seek(0)
        before, left = 0, skipped
        while left and (chunk := file.read(min(left, 1 << 20))):
            before += chunk.count(b"\n")
            left -= len(chunk)
        text = file.read().decode("utf-8", errors="replace").rstrip()
    return [_ANSI.sub("", line.rstrip("\r").rsplit("\r", 1)[-1]).rstrip() for line in text.split("\n")], before
