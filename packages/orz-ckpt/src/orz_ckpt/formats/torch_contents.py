"""Where the numbers of a torch file lie in file order, each of them once: what a pass over its bytes looks at.

Tensors are views of storages, and views may overlap: tied weights, slices of a flat buffer. What no view shows is not
looked at: behind a short shard of FSDP a storage holds what happened to be in memory.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orz_ckpt.formats.inert import blocks
from orz_ckpt.formats.safetensors import Header, Tensor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orz_ckpt.formats.archive import Record
    from orz_ckpt.formats.torch_file import TorchFile
    from orz_ckpt.tensors.source import Block

    View = tuple[str, Block]


@dataclass(frozen=True, kw_only=True, slots=True)
class TorchContents:
    """The numbers and the records of one file."""

    tensors: tuple[Tensor, ...]
    """Stretches of numbers of one type, in file order, apart from each other; named by their offset."""
    file_bytes: int
    records: tuple[Record, ...]
    views: Mapping[str, tuple[View, ...]]
    """Name of a stretch -> the tensors that lie in it."""
    scattered: Mapping[str, View]
    """Tensors with gaps between their elements that lie in no stretch, by a key that no stretch has."""
    named: Mapping[str, Block]
    """All tensors, by their place in what the file says."""
    hidden: tuple[str, ...] = ()
    """Names in `named` of which the file holds other tensors, too: `{"a": {"b": ...}, "a.b": ...}`."""


def contents_of(file: TorchFile) -> TorchContents:
    """Sort out where the tensors of a file lie."""
    named: dict[str, Block] = {}
    hidden: dict[str, None] = {}
    filled: list[View] = []
    for name, block in blocks(file.value):
        if named.setdefault(name, block) != block:
            hidden[name] = None
        if block.numel:
            filled.append((name, block))
    stretches: list[_Stretch] = []
    for view in sorted((view for view in filled if _is_dense(view[1])), key=lambda view: view[1].offset):
        if not (stretches and stretches[-1].takes(view)):
            stretches.append(_Stretch(view))
    tensors = tuple(stretch.tensor for stretch in stretches)
    return TorchContents(
        tensors=tensors,
        file_bytes=file.path.stat().st_size,
        records=file.records,
        views={tensor.name: tuple(stretch.views) for tensor, stretch in zip(tensors, stretches, strict=True)},
        scattered={
            f"{name}@{block.offset}": (name, block)
            for name, block in filled
            if not _is_dense(block) and not _lies_in(block, tensors)
        },
        named=named,
        hidden=tuple(hidden),
    )


def header_of(named: Mapping[str, Block]) -> Header:
    """Return the tensors of a file of weights as a header states them; what is tied has its bytes counted once.

    Args:
        named: the tensors that count, by the name under which they are loaded.
    """
    tensors = tuple(
        Tensor(name=name, dtype=block.dtype, shape=block.shape, offset=block.offset, nbytes=block.nbytes)
        for name, block in named.items()
    )
    return Header(tensors=tensors, data_offset=0, file_bytes=sum(block.nbytes for block in set(named.values())))


def damaged_tensors(contents: TorchContents, record: Record) -> list[str]:
    """Return the tensors of which some numbers lie in `record`."""
    return [
        name
        for name, block in contents.named.items()
        if block.numel and block.offset < record.end and record.offset < block.offset + extent_of(block)
    ]


class _Stretch:
    """Overlapping views of one type."""

    def __init__(self, view: View) -> None:
        self.views = [view]
        _, self._block = view
        self._end = self._block.offset + extent_of(self._block)

    def takes(self, view: View) -> bool:
        """Add a view that begins in this stretch; return False where it begins behind it."""
        _, block = view
        if block.offset >= self._end:
            return False
        # One storage seen as two types is looked at as the first; torch does not write such files.
        if block.dtype == self._block.dtype and not (block.offset - self._block.offset) % block.itemsize:
            self.views.append(view)
            self._end = max(self._end, block.offset + extent_of(block))
        return True

    @property
    def tensor(self) -> Tensor:
        first, nbytes = self._block, self._end - self._block.offset
        return Tensor(
            name=str(first.offset),
            dtype=first.dtype,
            shape=(nbytes // first.itemsize,),
            offset=first.offset,
            nbytes=nbytes,
        )


def extent_of(block: Block) -> int:
    """Return the bytes from the first element of a block to its last one, both with it."""
    return (
        1 + sum((size - 1) * stride for size, stride in zip(block.shape, block.strides, strict=True))
    ) * block.itemsize


def _lies_in(block: Block, stretches: Sequence[Tensor]) -> bool:
    """Return whether a stretch, which is looked at, has all that a block spans."""
    index = bisect_right(stretches, block.offset, key=lambda stretch: stretch.offset) - 1
    around = stretches[index] if index >= 0 else None
    return around is not None and around.dtype == block.dtype and block.offset + extent_of(block) <= around.end


def _is_dense(block: Block) -> bool:
    """Return whether the elements of a block, in whatever order, lie side by side; repeated ones count once."""
    expected = 1
    for stride, size in sorted(zip(block.strides, block.shape, strict=True)):
        if size > 1 and stride:
            if stride != expected:
                return False
            expected *= size
    return True
