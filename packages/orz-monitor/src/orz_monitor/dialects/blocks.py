"""Dictionaries that go over several lines: printed by pprint, or wrapped where the terminal ended."""

from __future__ import annotations

from typing import Final

from orz_monitor.dialects.dicts import dict_pairs
from orz_monitor.transport.lines import Line, Segment

_MOST_BYTES: Final = 1 << 18


class DictBlock:
    """Collects the lines of one process until the last brace of a dictionary.

    Attributes:
        segment: where it began, or None while nothing is collected.
        line: line number of the beginning.
        is_closed: whether the last brace is there, or what comes can't be part of a dictionary.
    """

    def __init__(self) -> None:
        self.segment: Segment | None = None
        self.line = 0
        self.is_closed = True
        self._pieces: list[bytes] = []
        self._num_bytes = 0
        self._depth = 0

    def begin(self, text: bytes, line: int, segment: Segment) -> None:
        """Start with what stands behind the header, perhaps nothing; what was held is dropped."""
        self.segment, self.line, self.is_closed = segment, line, False
        self._pieces, self._num_bytes, self._depth = [], 0, 0
        self._add(text.strip())

    def take(self, line: Line) -> bool:
        """Take what the same process printed on the next line; tells whether there was anything."""
        belonged = False
        for segment in line.segments:
            if self.segment is not None and segment.origin == self.segment.origin and not self.is_closed:
                before = len(self._pieces)
                self._add(segment.body.strip())
                belonged = belonged or len(self._pieces) > before
        return belonged

    def pairs(self) -> list[tuple[bytes, bytes]]:
        """Return key and printed value of what was collected, and forget it."""
        text = b"".join(self._pieces)
        self.segment, self.is_closed, self._pieces = None, True, []
        return dict_pairs(text) if text else []

    def _add(self, piece: bytes) -> None:
        """Add a piece; the first one begins with a brace, or nothing is collected."""
        if not piece:
            return
        if not self._pieces and not piece.startswith(b"{"):
            self.is_closed = True
            return
        self._pieces.append(piece)
        self._num_bytes += len(piece)
        self._depth += piece.count(b"{") - piece.count(b"}")
        self.is_closed = self._depth <= 0 or self._num_bytes > _MOST_BYTES
