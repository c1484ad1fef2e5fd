"""Metric lines of one layout as a table: by a few looks at all of them, none at each line or value.

Each separator in a line ends the head of a value, so that where the separators of a batch stand, all heads and values
do. The heads are compared a column at a time, and the values put one behind the other, as a JSON list.

A line is left out that has more or fewer separators than the layout, other heads, or a value that does not begin and
end as a number. Nothing is read where a value of the others is no plain number all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from orz_monitor.numbers import floats
from orz_monitor.transport.pieces import are, pieces

LONGEST_VALUE: Final = 60
"""No number has more characters."""
FEWEST_LINES: Final = 64
"""Fewer are read as fast one by one."""


def _is_one_of(characters: bytes) -> NDArray[np.bool_]:
    """Return for each byte whether it is among these."""
    return np.isin(np.arange(256), np.frombuffer(characters, np.uint8))


_IS_FIRST: Final = _is_one_of(b"+-.0123456789nNiI")
_IS_LAST: Final = _is_one_of(b".0123456789nNfFyY")
"""Of numbers, not a number, and infinity."""


class LayoutTable:
    """The heads of one kind of line, and what takes the values of many such lines out.

    Args:
        heads: what stands before each value, with the separator and perhaps a wrapper that is opened, [K].
        wrapped: whether each value is in a wrapper that ends in a parenthesis, [K].
        separator: one byte, which ends each key; keys may hold it, too.
        between: what stands before each item.
    """

    __slots__ = ("_back", "_heads", "_last", "_lengths", "_num_marks", "_wrapped")

    def __init__(self, heads: Sequence[bytes], wrapped: Sequence[bool], separator: bytes, between: bytes) -> None:
        self._heads = [between + head for head in heads]
        self._wrapped = np.array(wrapped, dtype=np.bool_)
        self._lengths = np.array([len(head) for head in self._heads])
        self._back = np.array([head.rindex(separator) for head in self._heads])
        marks = np.cumsum([head.count(separator) for head in self._heads])
        self._last = marks - 1
        self._num_marks = int(marks[-1])

    def read(
        self, text: bytes, starts: NDArray[np.int64], ends: NDArray[np.int64], marks: NDArray[np.int64]
    ) -> tuple[NDArray[np.intp], NDArray[np.float64]] | None:
        """Read the lines that fit.

        Args:
            text: holds them.
            starts: where the first item of each begins, with what stands before it, [M].
            ends: where each ends, [M].
            marks: where the separators of the text stand.

        Returns:
            Which lines fit, [L], and their values, [L, K]. None where these are too few, or a value is no number.
        """
        first = marks.searchsorted(starts)
        fitting = np.flatnonzero(marks.searchsorted(ends) - first == self._num_marks)
        begins = marks[first[fitting, None] + self._last] - self._back
        stops = np.concatenate([begins[:, 1:], ends[fitting, None]], axis=1) - self._wrapped
        lengths = stops - begins - self._lengths
        fits = (begins[:, 0] == starts[fitting]) & ((lengths > 0) & (lengths <= LONGEST_VALUE)).all(axis=1)
        fitting, begins, stops = fitting[fits], begins[fits], stops[fits]  # from here on all places are in their lines
        fits = self._fits(text, begins, stops)
        fitting, begins, stops = fitting[fits], begins[fits], stops[fits]
        if len(fitting) < FEWEST_LINES:
            return None
        places = begins + self._lengths
        values = floats(_joined(text, places.ravel(), (stops - places).ravel()))
        if values is None or len(values) != begins.size:  # a comma within a value
            return None
        return fitting, np.frombuffer(values).reshape(begins.shape)

    def _fits(self, text: bytes, begins: NDArray[np.int64], stops: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell which lines, [M], have the heads and, between their places, [M, K], what may be numbers."""
        characters = np.frombuffer(text, np.uint8)
        fits: NDArray[np.bool_] = (characters[stops[:, self._wrapped]] == ord(")")).all(axis=1)
        fits &= _IS_FIRST[characters[begins + self._lengths]].all(axis=1)
        fits &= _IS_LAST[characters[stops - 1]].all(axis=1)
        for head, places in zip(self._heads, np.ascontiguousarray(begins.T), strict=True):
            if pieces(text, len(head))[places].tobytes() != head * len(places):  # as a rule, all are alike
                fits &= are(text, head, places)
        return fits


def _joined(text: bytes, places: NDArray[np.int64], lengths: NDArray[np.int64]) -> bytes:
    """Return parts of a text with commas between, [M]; something stands before each. White space is behind them."""
    most = int(lengths.max())
    if int(places.max()) + most > len(text):
        text += b" " * most
    characters = pieces(text, 1 + most)[places - 1].view(np.uint8).reshape(len(places), 1 + most)
    characters[:, 0] = ord(",")
    kept = np.tri(1 + most, dtype=np.uint8).take(lengths, axis=0)
    characters *= kept
    characters += (1 - kept) * np.uint8(ord(" "))
    return characters.tobytes()[1:]
