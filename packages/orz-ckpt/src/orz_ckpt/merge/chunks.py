"""The output files of a merge, cut into chunks of some MiB in file order, across tensors."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orz_ckpt.tensors.dtypes import DTYPE_BITS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from orz_ckpt.merge.plan import PlannedFile, PlannedTensor


@dataclass(frozen=True, slots=True)
class Part:
    """Elements `begin` to `end` of a tensor, and the bytes of their chunk that they are."""

    tensor: PlannedTensor
    begin: int
    end: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bytes of one file that are written at once."""

    number: int
    file: PlannedFile
    offset: int
    """First byte, from the start of the file."""
    nbytes: int
    parts: tuple[Part, ...]
    last: bool
    """Of its file."""


def cut(files: Iterable[PlannedFile], chunk_bytes: int) -> Iterator[Chunk]:
    """Cut the files at multiples of `chunk_bytes`, which no number crosses: in a file the widest come first."""
    number = 0
    for file in files:
        offset, size = len(file.header), file.size
        tensors = deque(tensor for tensor in file.tensors if tensor.nbytes)
        while True:
            end = min(size, (offset // chunk_bytes + 1) * chunk_bytes)
            parts = []
            while tensors and tensors[0].offset < end:
                parts.append(_part(tensors[0], offset, end))
                if tensors[0].offset + tensors[0].nbytes > end:
                    break
                tensors.popleft()
            yield Chunk(number, file, offset, end - offset, tuple(parts), end == size)
            number, offset = number + 1, end
            if end == size:
                break


def _part(tensor: PlannedTensor, offset: int, end: int) -> Part:
    size = DTYPE_BITS[tensor.dtype] // 8
    low, high = max(offset, tensor.offset), min(end, tensor.offset + tensor.nbytes)
    return Part(tensor, (low - tensor.offset) // size, (high - tensor.offset) // size, low - offset, high - offset)
