"""The last lines of a log, as a terminal would show them."""

from __future__ import annotations

from collections import deque
from typing import Final

from orz_monitor.printable import last_refresh, printable

MOST_LINES: Final = 200
"""Kept; more than any terminal shows."""
_LONGEST_LINE: Final = 1000
"""Characters of a line that are kept."""
_ENOUGH_BYTES: Final = 128 << 10
"""Of a large piece, only its end can be on the screen."""


class LastLines:
    """Keeps the last lines of a log that comes in pieces. A line that has not ended yet counts, too."""

    def __init__(self) -> None:
        self._ended: deque[str] = deque(maxlen=MOST_LINES)
        self._open = b""
        self.num_bytes = 0

    def feed(self, data: bytes) -> None:
        """Take more of the log."""
        self.num_bytes += len(data)
        if len(data) > _ENOUGH_BYTES:
            data, self._open = data[-_ENOUGH_BYTES:], b""
        *ended, rest = (self._open + data).split(b"\n")
        self._open = rest[-_ENOUGH_BYTES:]
        self._ended.extend(_shown(line) for line in ended[-MOST_LINES:])

    def last(self, num: int) -> list[str]:
        """Return up to `num` lines that say something, oldest first."""
        if num <= 0:
            return []
        lines = [*self._ended, _shown(self._open)]
        return [line for line in lines if line][-num:]


def _shown(line: bytes) -> str:
    """Return what a terminal shows of a line."""
    return printable(last_refresh(line[-8 * _LONGEST_LINE :].decode("utf-8", errors="replace")), _LONGEST_LINE).rstrip()
