"""Which lines of a batch may be lists of names with numbers: found many at once, since most text holds a colon."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from orz_monitor.log import Log
from orz_monitor.transport.batch import Batch
from orz_monitor.transport.lines import Line


def _class(members: bytes) -> NDArray[np.bool_]:
    """Return for each byte whether it is one of these, [256]."""
    table = np.zeros(256, dtype=np.bool_)
    table[np.frombuffer(members, np.uint8)] = True
    return table


_DIGITS: Final = b"0123456789"
_LETTERS: Final = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_"
_IS_DIGIT: Final = _class(_DIGITS)
_IS_CAPITAL: Final = _class(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_IS_NAME: Final = _class(_LETTERS + _DIGITS + b"./@-")
_IS_VALUE: Final = _class(_DIGITS + b"+-.n")
"""What a number begins with, or `np.float64(`."""
_IS_SPACE: Final = _class(b" \t")
_IS_QUOTE: Final = _class(b"'\"")


class LinesBetween:
    """Goes through the lines of a batch that may be lists, between those that a dialect is given."""

    def __init__(self) -> None:
        self._batch: Batch | None = None
        self._lines: Iterator[Line] | None = None
        self._next: Line | None = None
        self._skipped = 0
        self._num_entries = 0

    def begin(self, batch: Batch, log: Log) -> None:
        """Begin with a batch."""
        self._batch, self._lines, self._skipped, self._num_entries = batch, None, 0, len(log.entries)

    def end(self) -> None:
        """Be done with the batch."""
        self._batch = self._lines = self._next = None

    def skip(self, until: int) -> None:
        """Go on to the line of this number; only before any call of `up_to` for the batch."""
        self._skipped = until

    def up_to(self, until: int, log: Log) -> Iterator[Line]:
        """Yield the lines of smaller numbers that nobody has read, each once."""
        if self._batch is None:
            return
        if self._lines is None:
            self._lines = lines_that_may_be_lists(self._batch, self._skipped)
            self._next = next(self._lines, None)
        read = {entry.line for entry in log.entries[self._num_entries :]}
        self._num_entries = len(log.entries)
        while (line := self._next) is not None and line.number < until:
            self._next = next(self._lines, None)
            if line.number not in read:
                yield line


def lines_that_may_be_lists(batch: Batch, after: int) -> Iterator[Line]:
    r"""Yield the lines on which a name stands before a colon or an equals sign, and a number behind it, in order.

    Args:
        batch: the lines; what was taken out of it is not looked at.
        after: number of the line behind which they are.

    Example:
        >>> batch = Batch(b"10:30 text\nbleu=3\nso x = 3\n'chrf': 4\n", first_line=1)
        >>> [(line.number, line.raw) for line in lines_that_may_be_lists(batch, after=1)]
        [(2, b'bleu=3'), (4, b"'chrf': 4")]
    """
    places = np.sort(np.concatenate([_places(batch, b"="), _places(batch, b":")]))
    begins, ends, numbers = batch.lines_of(places)
    _, first = np.unique(begins, return_index=True)
    for at in first[numbers[first] > after].tolist():
        begin = int(begins[at])
        before = batch.text[batch.text.rfind(b"\n", 0, begin - 1) + 1 : begin - 1] if begin else batch.before
        yield Line(batch.text[begin : int(ends[at])], int(numbers[at]), before)


def _places(batch: Batch, mark: bytes) -> NDArray[np.int64]:
    """Return where a mark stands with a name before it and a number behind, [M]."""
    places = batch.where(mark)
    characters = np.frombuffer(batch.text, np.uint8)
    name = places - 1
    name = name - _IS_SPACE[characters[name]]
    name = name - _IS_QUOTE[characters[name]]
    last, second, third = characters[name], characters[name - 1], characters[name - 2]
    value = np.minimum(places + 1, len(characters) - 1)
    value = np.minimum(value + _IS_SPACE[characters[value]], len(characters) - 1)
    value = np.minimum(value + _IS_QUOTE[characters[value]], len(characters) - 1)
    found = _IS_NAME[last] & _IS_NAME[second] & _IS_VALUE[characters[value]]
    found &= ~(_IS_CAPITAL[last] & _IS_CAPITAL[second] & ~_IS_NAME[third])  # a line of geometry
    if mark == b":":
        found &= ~(_IS_DIGIT[last] & _IS_DIGIT[second])  # a time of day
    return np.asarray(places[found])
