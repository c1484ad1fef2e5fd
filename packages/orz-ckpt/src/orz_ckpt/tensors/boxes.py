"""Boxes of arrays: ranges cut into them, what of a block lies in one, and how far its elements reach."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from orz_ckpt.tensors.source import c_strides

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from orz_ckpt.tensors.source import Block, Piece

    Box = tuple[tuple[int, ...], tuple[int, ...]]
    """First index and size, a dimension each."""


def boxes(shape: Sequence[int], begin: int, end: int) -> Iterator[Box]:
    """Cut the range `begin` to `end` of a C-ordered array into boxes that lie one behind the other.

    Example:
        >>> list(boxes((3, 4), 2, 12))
        [((0, 2), (1, 2)), ((1, 0), (2, 4))]
    """
    strides = c_strides(tuple(shape))
    while begin < end:
        # The outermost dimension of which at least one whole index fits from here on.
        axis = next(
            axis
            for axis, stride in enumerate(strides)
            if begin % stride == 0 and (begin + stride <= end or stride == 1)
        )
        index = tuple(begin // stride % size for stride, size in zip(strides, shape, strict=True))
        count = min((end - begin) // strides[axis], shape[axis] - index[axis])
        yield index, (*(1,) * axis, count, *shape[axis + 1 :])
        begin += count * strides[axis]


def inside(block: Block, start: Sequence[int], shape: tuple[int, ...]) -> Block:
    """Return the box of a block that begins at index `start`."""
    offset = sum(first * stride for first, stride in zip(start, block.strides, strict=True))
    return replace(block, offset=block.offset + offset * block.itemsize, shape=shape)


def common(piece: Piece, start: Sequence[int], shape: Sequence[int]) -> tuple[Block, tuple[int, ...]] | None:
    """Return what of a piece lies in a box of its grid, and where in the box; None where nothing does."""
    low = tuple(map(max, start, piece.start))
    high = tuple(min(a + n, b + m) for a, n, b, m in zip(start, shape, piece.start, piece.block.shape, strict=True))
    if any(a >= b for a, b in zip(low, high, strict=True)):
        return None
    size = tuple(b - a for a, b in zip(low, high, strict=True))
    block = inside(piece.block, tuple(a - b for a, b in zip(low, piece.start, strict=True)), size)
    return block, tuple(a - b for a, b in zip(low, start, strict=True))


def span_bytes(block: Block) -> int:
    """Return the bytes from a block's first element to the end of its last."""
    if not block.numel:
        return 0
    reach = sum((size - 1) * stride for size, stride in zip(block.shape, block.strides, strict=True))
    return (reach + 1) * block.itemsize
