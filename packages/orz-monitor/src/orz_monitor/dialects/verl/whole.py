"""What the metric lines of verl that were read tell of those to come: their keys, how they end, and how long they are.

Many lines are read at once, before one that stands above them: what is asked for is what the lines above a line told.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from orz_monitor.dialects.verl.keys import meaning_of


class WholeSteps:
    """The metric lines of one log, as far as they were read.

    Attributes:
        is_ascii: whether all of their keys are, so that the lines have as many characters as bytes.
    """

    def __init__(self) -> None:
        self.is_ascii = True
        self._first_lines: dict[str, int] = {}
        self._last_keys: dict[str, int] = {}
        self._longest: list[tuple[int, int]] = []  # of those longer than all above: line number, characters
        self._greatest = self._num_greatest = 0
        self._noted: tuple[tuple[str, ...], int] = ((), 0)

    def note(self, keys: tuple[str, ...], line: int, *, is_whole: bool = True) -> None:
        """Take note of the keys of a line; of one that is whole, the last one ends lines."""
        if is_whole:
            self._last_keys[keys[-1]] = min(self._last_keys.get(keys[-1], line), line)
        before, first_line = self._noted
        if keys is not before or line < first_line:  # most lines have the keys of the one before
            for key in keys:
                self._first_lines[key] = min(self._first_lines.get(key, line), line)
                self.is_ascii = self.is_ascii and key.isascii()
            self._noted = (keys, line)

    def note_all(self, first_lines: Mapping[tuple[str, ...], int]) -> None:
        """Take note of the keys of many whole lines, by the first line that has them."""
        for keys, line in first_lines.items():
            self.note(keys, line)

    def measure(self, lines: NDArray[np.int64], lengths: NDArray[np.int64]) -> None:
        """Take note of how many characters lines have that stand in one piece.

        Args:
            lines: line numbers, increasing, [M].
            lengths: [M].
        """
        greatest = int(lengths.max(initial=0))
        if greatest > self._greatest:
            self._greatest, self._num_greatest = greatest, 0
        self._num_greatest += int(np.count_nonzero(lengths == self._greatest))
        for at in np.flatnonzero(np.diff(np.maximum.accumulate(lengths), prepend=0)).tolist():
            line, length = int(lines[at]), int(lengths[at])
            if length > self.longest(line):
                insort(self._longest, (line, length))

    def is_known(self, key: bytes, line: int) -> bool:
        """Tell whether a key is one of verl, or was above a line."""
        name = key.decode("utf-8", "replace")
        return self._first_lines.get(name, line) < line or meaning_of(name) is not None

    def longest(self, line: int) -> int:
        """Return how many characters the longest line has above a line that stands in one piece; 0 without one."""
        above = bisect_left(self._longest, (line, 0))
        return max((length for _, length in self._longest[:above]), default=0)

    def fits(self, length: int) -> bool:
        """Tell whether lines of so many characters stand in one piece: a longer one did, or two that are as long."""
        return length < self._greatest or (length == self._greatest and self._num_greatest > 1)

    def ends_with(self, key: bytes, line: int) -> bool:
        """Tell whether a whole line above a line ended with a key."""
        return self._last_keys.get(key.decode("utf-8", "replace"), line) < line
