"""Validation metrics of verl: `("Initial validation metrics: {...`, which pprint breaks over several lines."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from orz_monitor.dialects.dicts import dict_pairs, is_closed
from orz_monitor.transport.lines import Segment

_NAME: Final = b"validation metrics"
_MOST_BYTES: Final = 1 << 18
_GOES_ON: Final = re.compile(rb"\s*(?:[\"'}]|:? ?[^\s\"']{0,200}(?:[\"']: |\}|,(?: [\"']|$)))")
"""How a line begins that may go on with a dictionary.

As pprint's lines do, with a quote or a brace; or, where a terminal broke it, with the end of a key or value.
"""


class Validation:
    """One dictionary of validation metrics, put together of its lines.

    Attributes:
        line: number of the line that it begins on.
        first: the segment that it begins with; None where nothing is held.
    """

    def __init__(self) -> None:
        self.line = 0
        self.first: Segment | None = None
        self._block = b""

    @property
    def is_whole(self) -> bool:
        """Whether its last brace is there, or it is longer than any."""
        return self.is_closed or len(self._block) > _MOST_BYTES

    @property
    def is_closed(self) -> bool:
        """Whether its last brace is there."""
        return is_closed(self._block)

    @property
    def is_last(self) -> bool:
        """Whether it is that of the end of a run."""
        return self.first is not None and self.first.body.lstrip(b"\"'(").startswith(b"Final validation")

    def begin(self, segment: Segment, number: int) -> bool:
        """Take the beginning of a dictionary; tells whether there is one."""
        start = segment.body.find(b"{")
        if _NAME not in segment.body or start < 0:
            return False
        self._block = segment.body[start:].rstrip().rstrip(b'"')
        self.line, self.first = number, segment
        return True

    def add(self, segments: Sequence[Segment]) -> bool:
        """Take more of it, which its process printed on one line; tells whether the dictionary may go on so."""
        if not _GOES_ON.match(segments[0].body):
            return False
        self._block += b"".join(_unquoted(segment.body.strip()) for segment in segments)
        return True

    def take(self) -> list[tuple[bytes, bytes]]:
        """Return keys and printed values, and hold nothing any more; of one without an end not what may be cut."""
        pairs = dict_pairs(self._block)
        if not self.is_closed and not self._block.rstrip(b"\"' ").endswith(b","):
            del pairs[-1:]
        self._block, self.first = b"", None
        return pairs


def _unquoted(piece: bytes) -> bytes:
    """Return what one of the quoted pieces holds into which pprint breaks a long text."""
    piece = piece.removesuffix(b")")
    return piece[1:-1] if len(piece) > 1 and piece[0] in b"'\"" and piece[-1] == piece[0] else piece
