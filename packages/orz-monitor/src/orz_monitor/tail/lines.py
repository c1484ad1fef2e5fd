"""The last lines of a log, as a terminal would show them."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from orz_monitor.errors import UnreadableRunError
from orz_monitor.printable import last_refresh, one_line
from orz_monitor.tail.refusals import is_compressed

_KEPT_BYTES: Final = 64 << 10
"""Of the end of the log; more than any terminal shows."""
_LONGEST_LINE: Final = 1000
"""Characters of a line that are shown."""


class LastLines:
    """Keeps the end of a log that comes in pieces; its lines are made when they are asked for.

    Attributes:
        num_bytes: how much came in all.
    """

    def __init__(self) -> None:
        self.num_bytes = 0
        self._end = b""

    def feed(self, data: bytes) -> None:
        """Take more of the log."""
        self.num_bytes += len(data)
        self._end = (self._end + data[-_KEPT_BYTES:])[-_KEPT_BYTES:]

    def last(self, num: int) -> list[str]:
        """Return up to `num` lines that say something, oldest first; one that has not ended yet counts, too."""
        found: list[str] = []
        for raw in reversed(self._end.split(b"\n")):
            if len(found) >= num:
                break
            line = _shown(raw)
            if line:
                found.append(line)
        return found[::-1]


def last_lines_of(path: Path) -> LastLines:
    """Return the last lines of a file as it is now, compressed or not; none of one that is no text, or is gone."""
    from orz_monitor.transport.opening import chunks, refuse_binary  # noqa: PLC0415 - gzip

    lines = LastLines()
    with suppress(UnreadableRunError, OSError), path.open("rb") as plain:
        start = plain.read(_KEPT_BYTES)
        if is_compressed(start):
            for chunk in chunks(path):
                lines.feed(chunk)
        else:
            refuse_binary(start, path)
            plain.seek(max(0, plain.seek(0, os.SEEK_END) - _KEPT_BYTES))
            lines.feed(plain.read())
    return lines


def _shown(line: bytes) -> str:
    """Return what a terminal shows of a line."""
    text = line[-8 * _LONGEST_LINE :].decode("utf-8", errors="replace")
    return one_line(last_refresh(text), _LONGEST_LINE).rstrip()
