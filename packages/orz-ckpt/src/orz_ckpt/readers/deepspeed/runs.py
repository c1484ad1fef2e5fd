"""Flat pieces of one tensor after another, and tensors made of them."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING

from orz_ckpt.tensors.source import Piece, SourceTensor

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from orz_ckpt.tensors.source import Block


@dataclass(frozen=True, slots=True)
class Run:
    """Flat blocks, seen as one line of elements. Example: a rank's sub-groups."""

    blocks: tuple[Block, ...]
    _starts: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        starts = tuple(accumulate((block.numel for block in self.blocks), initial=0))
        object.__setattr__(self, "_starts", starts)

    @property
    def numel(self) -> int:
        """How many elements it has."""
        return self._starts[-1]

    def cut(self, begin: int, end: int) -> Iterator[Block]:
        """Yield elements `begin` to `end`, in order."""
        index = max(bisect_right(self._starts, begin) - 1, 0)
        while begin < end:
            block, start = self.blocks[index], self._starts[index]
            stop = min(end, start + block.numel)
            if begin < stop:
                yield block.flat(begin - start, stop - start)
            begin, index = stop, index + 1


def divided_up(number: int, parts: int) -> int:
    """Return `number / parts`, rounded up, of any number that a file states: a float cannot hold all of them."""
    return -(-number // parts)


def join(name: str, shape: tuple[int, ...], blocks: Iterable[Block]) -> SourceTensor | None:
    """Return the tensor whose elements, flattened, lie in `blocks`; None unless each is there exactly once."""
    pieces: list[Piece] = []
    begin, kinds = 0, set[str]()
    for block in blocks:
        kinds.add(block.dtype)
        if block.numel:
            pieces.append(Piece(block=block, start=(begin,)))
            begin += block.numel
    numel = math.prod(shape)
    if begin != numel or len(kinds) != 1:
        return None
    return SourceTensor(name=name, dtype=kinds.pop(), shape=shape, grid=(numel,), pieces=tuple(pieces))
