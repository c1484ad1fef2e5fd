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
        line: number of its last line, from the end of the file: 1 is the last line.
        exception: its last line, such as `ValueError: ...`.
    """

    path: Path
    line: int
    exception: str


def last_traceback(path: Path) -> Traceback | None:
    """Find a Python traceback at the very end of a log; None if there is none or the log went on after it.

    Reads the last 64 KiB only.

    Raises:
        OSError: the log can't be read.
    """
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
        text = file.read().decode("utf-8", errors="replace")
    lines = [_ANSI.sub("", line.rsplit("\r", 1)[-1]).rstrip() for line in text.rstrip().split("\n")]
    start = next((i for i in reversed(range(len(lines))) if "Traceback (most recent call last)" in lines[i]), None)
    if start is None:
        return None
    for index in range(start + 1, len(lines)):
        body = lines[index]
        if body and not body.startswith(_INSIDE):
            after = len(lines) - 1 - index
            if after > _LINES_AFTER:
                return None
            return Traceback(path=path, line=after + 1, exception=body[:300])
    return Traceback(path=path, line=1, exception="the log ends within a traceback")
