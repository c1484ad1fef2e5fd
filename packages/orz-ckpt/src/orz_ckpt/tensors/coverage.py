"""Is every element of every tensor in exactly one place, and is that place inside its file?"""

from __future__ import annotations

import math
from itertools import groupby, pairwise
from operator import add, gt
from typing import TYPE_CHECKING, Final

from orz_ckpt.findings import CkptFinding, finding
from orz_ckpt.quoting import brief
from orz_ckpt.tensors.boxes import span_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from orz_ckpt.tensors.source import Piece, Source, SourceTensor

_MAX_NAMED: Final = 10
_AGAIN: Final = "copy the missing files here (`orz ckpt locate` searches for them), or use another checkpoint"


def check_coverage(source: Source) -> list[CkptFinding]:
    """Return what is missing, double or outside its file, of each tensor the first thing found."""
    sizes = _sizes(source)
    found = [entry for tensor in source.tensors.values() if (entry := _check(source, tensor, sizes))]
    findings: list[CkptFinding] = []
    for code, group in groupby(sorted(found, key=lambda entry: entry.code), key=lambda entry: entry.code):
        entries = list(group)
        findings += entries[:_MAX_NAMED]
        if len(entries) > _MAX_NAMED:
            message = f"and {len(entries) - _MAX_NAMED} more tensors likewise"
            findings.append(finding(code, message, remedy=_AGAIN, path=source.path))
    return findings


def _check(source: Source, tensor: SourceTensor, sizes: Mapping[Path, int]) -> CkptFinding | None:
    name = brief(tensor.name)
    if math.prod(tensor.grid) != tensor.numel:
        raise AssertionError(f"{name}: a reader gave grid {tensor.grid} for shape {tensor.shape}")
    for piece in tensor.pieces:
        block = piece.block
        if block.dtype != tensor.dtype or not len(piece.start) == len(block.shape) == len(tensor.grid):
            raise AssertionError(f"{name}: a reader gave {piece} for {tensor.dtype} {tensor.grid}")
        end, size = block.offset + span_bytes(block), sizes.get(block.path, -1)
        if end > size:
            state = f"the file has {size:,} bytes" if size >= 0 else "there is no such file"
            message = f"{name}: its bytes end at {end:,}, and {state}"
            return finding("tensor_hole", message, remedy=_AGAIN, path=block.path, tensor=tensor.name)
    return _check_cover(source, tensor)


def _check_cover(source: Source, tensor: SourceTensor) -> CkptFinding | None:
    """Boxes that lie inside, do not meet and have as many elements as the tensor cover it exactly once."""
    name = brief(tensor.name)
    pieces = sorted((piece for piece in tensor.pieces if piece.block.numel), key=lambda piece: piece.start)
    for piece in pieces:
        stop = _stop(piece)
        if any(map(gt, stop, tensor.grid)):
            message = f"{name}: a piece goes to {brief(list(stop))}, the tensor only to {brief(list(tensor.grid))}"
            return finding("tensor_overlap", message, remedy=_AGAIN, path=piece.block.path, tensor=tensor.name)
    twice = next(_meeting(pieces), None)
    if twice:
        first, second = twice
        message = (
            f"{name}: elements from {brief(list(second.start))} on are in two places,"
            f" {first.block.path.name} and {second.block.path.name}"
        )
        return finding("tensor_overlap", message, remedy=_AGAIN, path=second.block.path, tensor=tensor.name)
    missing = tensor.numel - sum(piece.block.numel for piece in pieces)
    if missing:
        message = f"{name}: {missing:,} of {tensor.numel:,} elements are in no file{_first_hole(tensor, pieces)}"
        return finding("tensor_hole", message, remedy=_AGAIN, path=source.path, tensor=tensor.name)
    return None


def _meeting(pieces: list[Piece]) -> Iterator[tuple[Piece, Piece]]:
    """Yield pairs that share an element; `pieces` are sorted, so only those that are still open need a look."""
    open_pieces: list[Piece] = []
    for piece in pieces:
        if not piece.start:
            if open_pieces:
                yield open_pieces[0], piece
        else:
            open_pieces = [other for other in open_pieces if _stop(other)[0] > piece.start[0]]
            for other in open_pieces:
                if all(
                    a < d and b < c
                    for a, c, b, d in zip(piece.start, _stop(piece), other.start, _stop(other), strict=True)
                ):
                    yield other, piece
        open_pieces.append(piece)


def _first_hole(tensor: SourceTensor, pieces: list[Piece]) -> str:
    if len(tensor.grid) != 1:
        return ""
    ends = [(piece.start[0], piece.start[0] + piece.block.numel) for piece in pieces]
    for (_, end), (begin, _) in pairwise([(0, 0), *ends, (tensor.numel, tensor.numel)]):
        if begin > end:
            return f", first {end:,} to {begin:,}"
    return ""


def _stop(piece: Piece) -> tuple[int, ...]:
    return tuple(map(add, piece.start, piece.block.shape))


def _sizes(source: Source) -> dict[Path, int]:
    paths = {piece.block.path for tensor in source.tensors.values() for piece in tensor.pieces}
    sizes = {}
    for path in paths:
        try:
            sizes[path] = path.stat().st_size
        except FileNotFoundError:
            continue
    return sizes
