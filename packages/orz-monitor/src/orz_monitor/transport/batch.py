"""Whole lines that are read together, with their numbers."""

from __future__ import annotations

from bisect import bisect_right, insort


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
    """

    __slots__ = ("_numbers", "_places", "_shifts", "_starts", "_taken", "before", "first_line", "text")

    def __init__(self, text: bytes, first_line: int = 1, before: bytes = b"") -> None:
        self.text = text
        self.first_line = first_line
        self.before = before
        self._places = [0]
        self._numbers = [first_line]
        self._taken: list[tuple[int, int]] = []
        self._starts = [0]
        self._shifts = [0]

    @property
    def num_lines(self) -> int:
        """How many lines there are."""
        return self.line_at(len(self.text)) - self.first_line

    def line_at(self, place: int) -> int:
        """Return the number of the line that a place in the text is on; cheapest for places in their order."""
        places, numbers = self._places, self._numbers
        at = bisect_right(places, place)
        number = numbers[at - 1] + self.text.count(b"\n", places[at - 1], place)
        if place != places[at - 1]:
            places.insert(at, place)
            numbers.insert(at, number)
        return number

    def take(self, start: int, stop: int) -> None:
        """Take bytes out that were understood; nobody else is to look at them."""
        insort(self._taken, (start, stop))

    def rest(self) -> bytes:
        """Return what was not taken out, in one piece."""
        if not self._taken:
            return self.text
        text = self.text
        pieces: list[bytes] = []
        self._starts, self._shifts = [], []
        length = end = 0
        for start, stop in [*self._taken, (len(text), len(text))]:
            if start > end:
                self._starts.append(length)
                self._shifts.append(end - length)
                pieces.append(text[end:start])
                length += start - end
            end = max(end, stop)
        return b"".join(pieces)

    def place(self, found: int) -> int:
        """Return where in the text something is that was found in the rest."""
        return found + self._shifts[bisect_right(self._starts, found) - 1]
