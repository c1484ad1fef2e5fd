"""Whole lines that are read together, with their numbers."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from orz_monitor.transport.ansi import without_escapes
from orz_monitor.transport.pieces import Pieces
from orz_monitor.transport.places import are, places_of


class Batch:
    r"""Whole lines, each with its newline.

    Most of a log's bytes are alike, and a dialect reads them all at once. It takes them out, so that what others look
    for is searched in the rest only.

    Args:
        text: the lines.
        first_line: line number of the first, from 1.
        before: the line before them.

    Example:
        >>> batch = Batch(b"loss=1\nCUDA error: 2\nloss=3\n", first_line=5)
        >>> batch.take(0, 6)
        >>> batch.take(21, 27)
        >>> batch.rest()
        b'\nCUDA error: 2\n\n'
        >>> batch.where(b"CUDA").tolist(), batch.line_at(7), batch.num_lines
        ([7], 6, 3)
        >>> batch.line_and_offset(12)
        (6, 5)
    """

    def __init__(self, text: bytes, first_line: int = 1, before: bytes = b"") -> None:
        self.text = text
        self.first_line = first_line
        self.before = before
        self._taken: list[NDArray[np.int64]] = []
        self._rest: bytes | None = None
        self._found: dict[bytes, NDArray[np.int64]] = {}
        self._starts = np.zeros(1, np.int64)
        self._shifts = np.zeros(1, np.int64)
        self._measured = (0, 0, 0)

    @cached_property
    def _newlines(self) -> NDArray[np.int64]:
        """Where the newlines stand."""
        return places_of(self.text, b"\n")

    @cached_property
    def _begins(self) -> NDArray[np.int64]:
        """Where the lines begin."""
        return np.concatenate([[0], self._newlines[:-1] + 1])

    @property
    def num_lines(self) -> int:
        """How many lines there are."""
        return len(self._newlines)

    def line_at(self, place: int) -> int:
        """Return the number of the line that a place in the text is on."""
        return self.first_line + int(self._newlines.searchsorted(place))

    def lines_of(self, places: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return where the lines begin that places in the text are on, where these end, and their numbers; [M] each."""
        at = self._newlines.searchsorted(places)
        return self._begins[at], self._newlines[at], at + self.first_line

    def lines_beginning(self, start: bytes) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return where the lines begin that begin so, where these end, and their numbers; [M] each."""
        begins = self._begins
        long = np.flatnonzero(self._newlines - begins >= len(start))
        at = long[are(self.text, start, begins[long])]
        return begins[at], self._newlines[at], at + self.first_line

    def line_and_offset(self, place: int) -> tuple[int, int]:
        """Return the number of the line that a place is on, and how many bytes stand before it there.

        Escapes are not counted, as in `Segment.offset`. Places that are asked for in order are found in linear time.
        """
        index = int(self._newlines.searchsorted(place))
        start = int(self._newlines[index - 1]) + 1 if index else 0
        line, before, offset = self._measured
        if line != start or before > place:
            before, offset = start, 0
        offset += len(without_escapes(self.text[before:place]))
        self._measured = start, place, offset
        return self.first_line + index, offset

    def take(self, start: int, stop: int) -> None:
        """Take bytes out that were understood; nobody else is to look at them."""
        self.take_all(np.array([start]), np.array([stop]))

    def take_all(self, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> None:
        """Take out what stands between some places and others, [M] each."""
        self._taken.append(np.stack([starts, stops], axis=1))
        self._rest = None
        self._found.clear()

    def rest(self) -> bytes:
        """Return what was not taken out, in one piece."""
        if self._rest is None:
            self._rest = self._without_taken() if self._taken else self.text
        return self._rest

    def where(self, piece: bytes) -> NDArray[np.int64]:
        """Return where in the text a piece stands of which nothing was taken out."""
        if piece not in self._found:
            self._found[piece] = self._places(places_of(self.rest(), piece))
        return self._found[piece]

    def _places(self, found: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return where in the text all that is which was found in the rest, [M]."""
        return np.asarray(found + self._shifts[self._starts.searchsorted(found, side="right") - 1])

    def _without_taken(self) -> bytes:
        """Put together what was not taken out, and note where it is from."""
        taken = np.concatenate(self._taken)
        taken = taken[taken[:, 0].argsort(kind="stable")]
        begins = np.concatenate([[0], np.maximum.accumulate(taken[:, 1])])
        ends = np.concatenate([taken[:, 0], [len(self.text)]])
        left = ends > begins
        begins, ends = begins[left], ends[left]
        lengths = ends - begins
        starts = np.cumsum(lengths) - lengths
        self._starts, self._shifts = starts, begins - starts
        return Pieces(self.text, begins, ends).joined()
