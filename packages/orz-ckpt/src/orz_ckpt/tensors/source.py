"""The nouns between readers and what uses them: where the numbers of each tensor lie, whatever the format.

A reader (`orz_ckpt.formats`) turns a checkpoint into a `Source` without reading a weight. `merge`, `verify` and
`diff` then read the bytes that it points to. Nothing here opens a file.

A tensor of a distributed checkpoint lies in several files. Its `grid` is the shape in which its pieces are boxes:
for shards along dimensions (FSDP, DCP) the tensor's own shape, for partitions of a flattened tensor (ZeRO) one
dimension of all its elements. Both have the same elements in the same (C) order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from orz_ckpt.tensors.dtypes import DTYPE_BITS
from orz_ckpt.tensors.stamps import Stamps

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from orz_ckpt.findings import CkptFinding


MAX_DIMENSIONS: Final = 64
"""torch's own. The product of a shape is a number as long as the shape, and takes time by the square of that."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """A rectangular array of numbers inside a file. Example: a tensor of a `torch.save` file."""

    path: Path
    offset: int
    """First byte of its first element, from the start of the file."""
    dtype: str
    """A safetensors name of whole bytes: `F32`, `BF16`, `I64`, ..."""
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    """Elements from one index to the next, a dimension each; never negative."""

    def __hash__(self) -> int:
        # Of a text, since Python salts those: a file could choose numbers whose own hashes are all the same.
        return hash(f"{self.path}\0{self.offset}\0{self.dtype}\0{self.shape}\0{self.strides}")

    @property
    def numel(self) -> int:
        """How many elements it has."""
        return math.prod(self.shape)

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return DTYPE_BITS[self.dtype] // 8

    @property
    def nbytes(self) -> int:
        """Bytes of its elements."""
        return self.numel * self.itemsize

    @property
    def contiguous(self) -> bool:
        """Whether its elements lie one behind the other in C order."""
        return self.numel <= 1 or in_order(self.shape, self.strides)

    def flat(self, begin: int, end: int) -> Block:
        """Return elements `begin` to `end` of a contiguous block, as one dimension."""
        if not (self.contiguous and 0 <= begin <= end <= self.numel):
            raise ValueError(f"elements {begin} to {end} of {self}")
        offset = self.offset + begin * self.itemsize
        return Block(path=self.path, offset=offset, dtype=self.dtype, shape=(end - begin,), strides=(1,))

    def of(self, path: Path) -> Block:
        """Return the block at the same place of another file."""
        return Block(path=path, offset=self.offset, dtype=self.dtype, shape=self.shape, strides=self.strides)


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """A block, and the place in its tensor's grid where its first element belongs."""

    block: Block
    start: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceTensor:
    """One tensor of a model, whole."""

    name: str
    dtype: str
    """Of its pieces, all alike."""
    shape: tuple[int, ...]
    grid: tuple[int, ...]
    """The shape that pieces are boxes of: `shape`, or `(numel,)`."""
    pieces: tuple[Piece, ...]
    """Cover the grid exactly once."""
    plus: LowRank | None = None
    """What is to be added to its numbers; then `low_rank.Adder` reads it, not `gather.Gatherer`."""

    @property
    def numel(self) -> int:
        """How many elements it has."""
        return math.prod(self.shape)

    @property
    def parts(self) -> tuple[SourceTensor, ...]:
        """The tensors that it is made of: itself, and the factors of what is added."""
        return (self,) if self.plus is None else (self, self.plus.left, self.plus.right)

    @property
    def nbytes(self) -> int:
        """Bytes of its elements."""
        return self.numel * DTYPE_BITS[self.dtype] // 8


@dataclass(frozen=True, kw_only=True, slots=True)
class LowRank:
    """The matrix `scale * left @ right`: the update of a LoRA adapter."""

    left: SourceTensor
    """[rows, rank]."""
    right: SourceTensor
    """[rank, columns]."""
    scale: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Packed:
    """A flat block that several tensors share, or what an optimizer keeps of them. Example: a partition of ZeRO.

    It says whose numbers a shard holds where the other shards of those tensors are missing, too.
    """

    block: Block
    """One dimension."""
    held: tuple[tuple[str, int, int], ...]
    """Name of a tensor, its first element in the block, and the one behind its last; in the order of the elements.
    What lies between them is padding, which nobody wrote."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A checkpoint of any format: its tensors, and what it says of itself."""

    path: Path
    format: str
    """`safetensors`, `hf`, `torch`, `deepspeed-zero3`, `deepspeed-universal`, `fsdp`, `dcp`, `peft`, ..."""
    tensors: Mapping[str, SourceTensor]
    """By name, in the order in which a framework would save them."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Names of tied tensors -> the name in `tensors` that holds their numbers."""
    step: int | None = None
    world_size: int | None = None
    """Ranks that wrote it; None where it does not say."""
    writer: str = ""
    """`deepspeed 0.19.8`; empty where it does not say."""
    files: tuple[Path, ...] = ()
    """Every file that belongs to it, read or not."""
    model_folder: Path | None = None
    """Where its configuration and tokenizer lie, if not beside its weights: verl's `huggingface/`."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """What else is worth showing: ZeRO stage, partition counts, mesh, rank of an adapter."""
    frozen: tuple[str, ...] = ()
    """Names of tensors that were not trained, where it says so."""
    copied: int = 0
    """How many of its tensors several ranks saved, whose copies its reader compared."""
    packed: tuple[Packed, ...] = ()
    """Blocks of its files with padding, where it is known which of their elements that is."""
    stamps: Stamps = field(default_factory=Stamps)
    """What its shards say of their save, to be compared with shards elsewhere."""
    findings: tuple[CkptFinding, ...] = ()
    """What is wrong with it. With an error among them, `tensors` is what could be made of the rest."""


def c_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the strides, in elements, of a C-ordered array."""
    strides: list[int] = []
    step = 1
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))


def in_order(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Return whether elements of a shape, so many elements apart along each dimension, lie without gaps in C order."""
    step = 1
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size != 1 and stride != step:
            return False
        step *= size
    return True


def whole(name: str, block: Block) -> SourceTensor:
    """Return the tensor that lies in one block; without elements it has no piece."""
    piece = Piece(block=block, start=(0,) * len(block.shape))
    return SourceTensor(
        name=name, dtype=block.dtype, shape=block.shape, grid=block.shape, pieces=(piece,) if block.numel else ()
    )


def untied(tensors: Mapping[str, SourceTensor]) -> tuple[dict[str, SourceTensor], dict[str, str]]:
    """Tell tied tensors by where they lie: in the same bytes.

    Returns:
        The tensors under their first name, and every other name with the first.
    """
    kept: dict[str, SourceTensor] = {}
    aliases: dict[str, str] = {}
    by_place: dict[object, str] = {}
    for name, tensor in tensors.items():
        first = by_place.setdefault((tensor.shape, tensor.pieces), name) if tensor.pieces else name
        if first == name:
            kept[name] = tensor
        else:
            aliases[name] = first
    return kept, aliases
