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
_IGNORING: Final = ("Exception ignored ", "--- Logging error ---")
"""What Python says before a traceback after which it goes on."""
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
    lines, skipped = _tail(path)
    start = next((i for i in reversed(range(len(lines))) if "Traceback (most recent call last)" in lines[i]), None)
    if start is None or lines[start - 1 if start else 0].startswith(_IGNORING):
        return None
    for index in range(start + 1, len(lines)):
        if lines[index] and not lines[index].startswith(_INSIDE):
            if len(lines) - 1 - index > _LINES_AFTER:
                return None
            line = _num_lines(path, skipped) + index + 1
            return Traceback(path=path, line=line, exception=lines[index][:300])
    return Traceback(path=path, line=_num_lines(path, skipped) + start + 1, exception="the log ends within a traceback")


def _tail(path: Path) -> tuple[list[str], int]:
    """Return the last lines of a log, as a terminal would show them, and how many bytes are before them."""
    with path.open("rb") as file:
        skipped = max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES)
        file.seek(skipped)
        text = file.read().decode("utf-8", errors="replace").rstrip()
    return [_ANSI.sub("", line.rstrip("\r").rsplit("\r", 1)[-1]).rstrip() for line in text.split("\n")], skipped


def _num_lines(path: Path, num_bytes: int) -> int:
    """Return how many lines end within the first bytes of a log; it may be large, so only a traceback is worth it."""
    count = 0
    with path.open("rb") as file:
        while num_bytes > 0 and (chunk := file.read(min(num_bytes, 1 << 20))):
            count += chunk.count(b"\n")
            num_bytes -= len(chunk)
    return count
