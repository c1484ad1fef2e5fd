"""Boxes of a tensor from several files, put together: what ranks hold of it, once each, and which of it are copies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from orz_ckpt.findings import finding
from orz_ckpt.quoting import brief
from orz_ckpt.readers.copies import Copy, same
from orz_ckpt.tensors.source import Block, Piece, SourceTensor

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from orz_ckpt.findings import CkptFinding
    from orz_ckpt.formats.archive import Record

MAX_NAMED: Final = 5
"""How many findings of one kind are worth reading."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A box of a tensor. Example: rows 4 to 8 of 11."""

    shape: tuple[int, ...]
    """Of the whole tensor."""
    start: tuple[int, ...]
    block: Block


@dataclass(frozen=True, kw_only=True, slots=True)
class Assembled:
    """One tensor from all its parts."""

    name: str
    tensor: SourceTensor | None
    """None where the parts contradict each other."""
    copies: tuple[Copy, ...] = ()
    findings: tuple[CkptFinding, ...] = ()

    @property
    def copied(self) -> bool:
        """Whether all its parts are there several times."""
        if self.tensor is None or not self.copies:
            return False
        return {piece.block for piece in self.tensor.pieces} <= {copy.used for copy in self.copies}

    @property
    def complete(self) -> bool:
        """Whether its parts are all of it, given that they do not overlap."""
        return self.tensor is not None and sum(piece.block.numel for piece in self.tensor.pieces) == self.tensor.numel


def assemble(name: str, parts: Sequence[Part]) -> Assembled:
    """Put the parts of one tensor together; of a box that is there several times the first is taken.

    Args:
        name: of the tensor.
        parts: at least one; whether they cover it is for `coverage` to say.
    """
    kinds = {(part.shape, part.block.dtype) for part in parts}
    if len(kinds) > 1:
        texts = sorted(f"{dtype} {list(shape)}" for shape, dtype in kinds)
        message = f"{brief(name)} is {' and '.join(texts)}"
        remedy = "the files are of different models or runs: collect those of one save"
        path = parts[-1].block.path
        found = finding("shards_disagree", message, remedy=remedy, path=path, tensor=name)
        return Assembled(name=name, tensor=None, findings=(found,))
    boxes: dict[tuple[tuple[int, ...], tuple[int, ...]], Part] = {}
    copies = []
    for part in parts:
        first = boxes.setdefault((part.start, part.block.shape), part)
        if first is not part and part.block.numel:
            copies.append(Copy(tensor=name, used=first.block, other=part.block))
    ((shape, dtype),) = kinds
    pieces = tuple(Piece(block=part.block, start=part.start) for part in boxes.values() if part.block.numel)
    tensor = SourceTensor(name=name, dtype=dtype, shape=shape, grid=shape, pieces=pieces)
    return Assembled(name=name, tensor=tensor, copies=tuple(copies))


def check_copies(assembled: Iterable[Assembled], records: Mapping[Path, Sequence[Record]]) -> Iterator[CkptFinding]:
    """Yield which tensors have copies that differ; stop when enough was found.

    Args:
        assembled: the tensors.
        records: see `copies.same`.

    Raises:
        OSError: a copy has to be read, and cannot be.
    """
    count = 0
    for entry in assembled:
        other = next((copy for copy in entry.copies if not same(copy, records)), None)
        if other is None:
            continue
        message = f"{brief(entry.name)} differs between {other.used.path.name} and {other.other.path.name}"
        remedy = "they are of different steps, or one is damaged: collect the files of one save"
        yield finding("copies_differ", message, remedy=remedy, path=other.other.path, tensor=entry.name)
        count += 1
        if count == MAX_NAMED:
            return
