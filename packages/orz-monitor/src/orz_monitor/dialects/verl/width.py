"""The width at which the metric lines of a log are wrapped, where they show it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from orz_monitor.dialects.verl.items import is_dangling
from orz_monitor.transport.ansi import without_escapes

NARROWEST: Final = 40
"""Characters of the narrowest terminal that is believed; shorter lines have one length by chance."""
_FEWEST_LINES: Final = 4
_FEWEST_HEADS: Final = 3
_FEWEST_FIRSTS: Final = 3
"""Lengths of first pieces; two there are where a terminal became wider."""


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
        self._firsts: set[int] = set()
        self._firsts_bytes: set[int] = set()
        self._has_items = False

    def known(self, longest: int) -> int:
        """Return the width in characters, 0 where it isn't known.

        Args:
            longest: characters of the longest line that was not wrapped: what lines in two pieces seem to show is
                less than that by chance only.
        """
        if self._of_many:
            return self._of_many
        is_shown = self._num_lines >= _FEWEST_LINES and len(self._heads) >= _FEWEST_HEADS and len(self._firsts) == 1
        return self._of_two if is_shown and max(longest, NARROWEST) <= self._of_two else 0

    @property
    def is_none(self) -> bool:
        """Whether no line was broken at a width: all rests were numbers, below lines of three lengths.

        In characters as well as in bytes.
        """
        num_lengths = min(len(self._firsts), len(self._firsts_bytes))
        return not (self._of_many or self._has_items) and num_lengths >= _FEWEST_FIRSTS

    def may_be(self, length: int) -> bool:
        """Tell whether a line of so many characters, or its blank more, may have been broken as those before were."""
        return not {length, length + 1}.isdisjoint({self._of_many, self._of_two})

    def learn(self, width: int) -> None:
        """Take what a line in three pieces and more shows."""
        self._of_many = width

    def learn_of_two(self, length: int, more_bytes: int, head: int, *, has_items: bool) -> None:
        """Take what a line in two pieces shows, broken within an item.

        Args:
            length: characters of its first piece.
            more_bytes: by how many bytes these are more.
            head: characters of that before the item.
            has_items: whether the second piece has more than a number.
        """
        self._of_two = length
        if len(self._firsts) < _FEWEST_FIRSTS:
            self._firsts.add(length)
        if len(self._firsts_bytes) < _FEWEST_FIRSTS:
            self._firsts_bytes.add(length + more_bytes)
        self._num_lines += 1
        self._has_items = self._has_items or has_items
        if len(self._heads) < _FEWEST_HEADS:
            self._heads.add(head)


def length_of(raw: bytes) -> int:
    """Return how many characters of a line a terminal shows."""
    return len(without_escapes(raw).rstrip(b"\r").decode("utf-8", errors="replace"))


def more_bytes_of(piece: bytes) -> int:
    """Return by how many bytes a piece is longer than in characters."""
    return len(piece) - len(piece.decode("utf-8", errors="replace"))


def are_full(pieces: Sequence[bytes], lengths: Sequence[int], width: int) -> bool:
    """Tell whether pieces were broken at a width, which may have cost a piece the blank at its end."""
    return all(
        length == width or (length == width - 1 and (before.endswith(b" -") or piece.startswith(b"- ")))
        for before, piece, length in zip(pieces, pieces[1:], lengths, strict=False)
    )


def are_filled(pieces: Sequence[bytes], lengths: Sequence[int], width: int) -> bool:
    """Tell whether pieces were broken between words, each as late as a width allows."""
    return all(
        (is_dangling(before) or piece.startswith(b"- ")) and length + 1 + length_of(piece.split(maxsplit=1)[0]) > width
        for before, piece, length in zip(pieces, pieces[1:], lengths, strict=False)
    )
