"""The width at which the metric lines of a log are wrapped, where they show it."""

from __future__ import annotations

from typing import Final

NARROWEST: Final = 40
"""Characters of the narrowest terminal that is believed; shorter lines have one length by chance."""
_FEWEST_LINES: Final = 4
_FEWEST_HEADS: Final = 3


class WrapWidth:
    """What is known of the width.

    A line in three pieces and more shows it by itself. Lines in two pieces show it together, if the log has no other
    ones: four first pieces, of one length whatever stands before the item that was broken, which has three lengths
    at least. Lines of one length by chance, or because each value has a fixed form, don't.
    """

    def __init__(self) -> None:
        self._of_many = self._of_two = 0
        self._num_lines = 0
        self._heads: set[int] = set()
        self._differs = False

    def known(self, longest: int) -> int:
        """Return the width in characters, 0 where it isn't known.

        Args:
            longest: characters of the longest line that was not wrapped: what lines in two pieces seem to show is
                less than that by chance only.
        """
        if self._of_many:
            return self._of_many
        is_shown = self._num_lines >= _FEWEST_LINES and len(self._heads) >= _FEWEST_HEADS and not self._differs
        return self._of_two if is_shown and longest <= self._of_two else 0

    def learn(self, width: int) -> None:
        """Take what a line in three pieces and more shows."""
        self._of_many = width

    def learn_of_two(self, length: int, head: int) -> None:
        """Take what a line in two pieces shows, broken within an item.

        Args:
            length: characters of its first piece.
            head: characters of that before the item.
        """
        self._differs = self._differs or length < NARROWEST or self._of_two not in {0, length}
        self._of_two = length
        self._num_lines += 1
        if len(self._heads) < _FEWEST_HEADS:
            self._heads.add(head)
