"""The pieces of a tensor by where they lie, so that who reads a part of it does not look at all of them.

A tensor of a thousand ranks has a thousand pieces, and is read in thousands of parts.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orz_ckpt.tensors.source import Piece


class PiecesInOrder:
    """The pieces of one tensor, in the order of their first index along one dimension.

    That is the first one along which the tensor was cut. A tensor is read by ranges in C order, which span whole
    dimensions behind their own: what is looked at and not asked for is at most what lies at the same first indexes.
    """

    def __init__(self, pieces: Sequence[Piece]) -> None:
        begins = zip(*(piece.start for piece in pieces), strict=True)
        self._axis = next((axis for axis, all_begins in enumerate(begins) if len(set(all_begins)) > 1), 0)
        self._pieces = sorted(pieces, key=lambda piece: first_index(piece, self._axis))
        self._begins = [first_index(piece, self._axis) for piece in self._pieces]
        # Pieces may be empty, or lie in one another: what ends last of all so far never decreases.
        self._ends = list(accumulate((_end(piece, self._axis) for piece in self._pieces), max))

    def near(self, low: Sequence[int], high: Sequence[int]) -> Sequence[Piece]:
        """Return the pieces that may hold an element of the box from corner `low` up to, without it, corner `high`."""
        axis = self._axis
        return self._pieces[bisect_right(self._ends, low[axis]) : bisect_left(self._begins, high[axis])]


def first_index(piece: Piece, axis: int) -> int:
    """Return where a piece begins along a dimension of its grid; 0 for a grid without dimensions."""
    return piece.start[axis] if piece.start else 0


def _end(piece: Piece, axis: int) -> int:
    # A piece of a flat grid may be a block of any shape.
    size = piece.block.shape[axis] if len(piece.start) > 1 else piece.block.numel
    return first_index(piece, axis) + size
