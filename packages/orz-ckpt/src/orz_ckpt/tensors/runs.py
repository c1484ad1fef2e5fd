"""Numbers that lie one behind another in a file: what most tensors of most checkpoints consist of.

Who knows all runs that it needs can read those that are neighbours in their file together. Partitions of a flattened
tensor (ZeRO) are runs, and so are shards along the first dimension (FSDP).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orz_ckpt.tensors.boxes import boxes, common
from orz_ckpt.tensors.dtypes import DTYPE_BITS
from orz_ckpt.tensors.pieces import first_index
from orz_ckpt.tensors.source import c_strides, in_order

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from orz_ckpt.tensors.pieces import PiecesInOrder
    from orz_ckpt.tensors.source import Block, SourceTensor


@dataclass(frozen=True, slots=True)
class Run:
    """Numbers one behind another in a file, and the memory where they belong."""

    path: Path
    offset: int
    """First byte, from the start of the file."""
    dtype: str
    """As they are stored."""
    count: int
    out: memoryview
    """For exactly as many numbers of type `wanted`."""
    wanted: str

    @property
    def itemsize(self) -> int:
        """Bytes of a number in the file."""
        return DTYPE_BITS[self.dtype] // 8

    @property
    def end(self) -> int:
        """The byte behind the last one, from the start of the file."""
        return self.offset + self.count * self.itemsize

    def cut(self, count: int) -> tuple[Run, Run]:
        """Return the first `count` numbers, and the others."""
        offset, place = self.offset + count * self.itemsize, count * (len(self.out) // self.count)
        return (
            Run(self.path, self.offset, self.dtype, count, self.out[:place], self.wanted),
            Run(self.path, offset, self.dtype, self.count - count, self.out[place:], self.wanted),
        )


def runs_of(
    tensor: SourceTensor, pieces: PiecesInOrder, begin: int, end: int, out: memoryview, wanted: str
) -> list[Run] | None:
    """Find elements `begin` to `end`, at least one, of a flattened tensor.

    Args:
        tensor: whose they are.
        pieces: its pieces.
        begin: first element.
        end: the element after the last one.
        out: memory for so many numbers of type `wanted`.
        wanted: the type in which they belong there.

    Returns:
        Their runs, in no order; None where some of them lie otherwise, such as shards along the last dimension.
    """
    places = _flat(pieces, begin, end) if len(tensor.grid) <= 1 else _boxed(tensor, pieces, begin, end)
    size, runs = len(out) // (end - begin), list[Run]()
    for block, place in places:
        if block is None:
            return None
        into = out[place * size : (place + block.numel) * size]
        runs.append(Run(block.path, block.offset, block.dtype, block.numel, into, wanted))
    return runs


def _flat(pieces: PiecesInOrder, begin: int, end: int) -> Iterator[tuple[Block | None, int]]:
    """Yield blocks of a flat grid without gaps, None for one with, and how many elements come before."""
    for piece in pieces.near((begin,), (end,)):
        start = first_index(piece, 0)
        low, high = max(begin, start), min(end, start + piece.block.numel)
        if low < high:
            yield piece.block.flat(low - start, high - start) if piece.block.contiguous else None, low - begin


def _boxed(tensor: SourceTensor, pieces: PiecesInOrder, begin: int, end: int) -> Iterator[tuple[Block | None, int]]:
    """Yield the same of a grid of several dimensions; a block has no gaps if it has none in its box either."""
    done = 0
    for start, shape in boxes(tensor.grid, begin, end):
        strides = c_strides(shape)
        stop = tuple(first + size for first, size in zip(start, shape, strict=True))
        for piece in pieces.near(start, stop):
            part = common(piece, start, shape)
            if part is not None:
                block, corner = part
                place = sum(first * stride for first, stride in zip(corner, strides, strict=True))
                yield block if block.contiguous and in_order(block.shape, strides) else None, done + place
        done += strides[0] * shape[0]
