"""Whole lines that are read together, with their numbers."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from functools import cached_property
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from orz_monitor.transport.ansi import without_escapes
from orz_monitor.transport.pieces import are, places_of


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
        >>> batch.place(1), batch.line_at(7), batch.num_lines
        (7, 6, 3)
        >>> batch.line_and_offset(12)
        (6, 5)
    """

    def __init__(self, text: bytes, first_line: int = 1, before: bytes = b"") -> None:
        self.text = text
        self.first_line = first_line
        self.before = before
        self._taken: list[tuple[int, int]] = []
        self._rest: bytes | None = None
        self._starts = [0]
        self._shifts = [0]
        self._measured = (0, 0, 0)

    @cached_property
    def _newlines(self) -> NDArray[np.int64]:
        """Where the newlines stand."""
        return places_of(self.text, b"\n")

    def places_of(self, wanted: bytes) -> NDArray[np.int64]:
        """Return where any of some bytes stand; newlines that are among them are not looked for again."""
        places = places_of(self.text, wanted)
        if b"\n" in wanted:
            self._newlines = places[np.frombuffer(self.text, np.uint8)[places] == ord("\n")]
        return places

    @property
    def num_lines(self) -> int:
        """How many lines there are."""
        return len(self._newlines)

    def line_at(self, place: int) -> int:
        """Return the number of the line that a place in the text is on."""
        return self.first_line + int(self._newlines.searchsorted(place))

    def lines_at(self, places: Sequence[int]) -> list[int]:
        """Return the numbers of the lines that places in the text are on."""
        numbers: list[int] = (self._newlines.searchsorted(places) + self.first_line).tolist()
        return numbers

    def lines_beginning(self, start: bytes) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return where the lines begin that begin so, where these end, and their numbers; [M] each."""
        begins = np.concatenate([[0], self._newlines[:-1] + 1])
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
        self._taken.append((start, stop))
        self._rest = None

    def take_all(self, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> None:
        """Take out what stands between some places and others, [M] each."""
        self._taken += zip(starts.tolist(), stops.tolist(), strict=True)
        self._rest = None

    def rest(self) -> bytes:
        """Return what was not taken out, in one piece."""
        if self._rest is None:
            self._rest = self._without_taken() if self._taken else self.text
        return self._rest

    def place(self, found: int) -> int:
        """Return where in the text something is that was found in the rest."""
        return found + self._shifts[bisect_right(self._starts, found) - 1]

    def _without_taken(self) -> bytes:
        """Put together what was not taken out, and note where it is from."""
        text = memoryview(self.text)
        self._taken.sort()
        taken = np.fromiter(chain.from_iterable(self._taken), np.int64, 2 * len(self._taken)).reshape(-1, 2)
        begins = np.concatenate([[0], np.maximum.accumulate(taken[:, 1])])
        ends = np.concatenate([taken[:, 0], [len(text)]])
        left = ends > begins
        begins, ends = begins[left], ends[left]
        lengths = ends - begins
        starts = np.cumsum(lengths) - lengths
        self._starts, self._shifts = starts.tolist(), (begins - starts).tolist()
        return b"".join([text[begin:end] for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)])
