"""The last lines of a log, as a terminal would show them."""

from __future__ import annotations

from typing import Final

from orz_monitor.printable import last_refresh, one_line

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


def _shown(line: bytes) -> str:
    """Return what a terminal shows of a line."""
    text = line[-8 * _LONGEST_LINE :].decode("utf-8", errors="replace")
    return one_line(last_refresh(text), _LONGEST_LINE).rstrip()
