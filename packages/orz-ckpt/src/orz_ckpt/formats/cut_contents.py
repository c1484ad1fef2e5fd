"""The numbers of a file cut by the tensors that they belong to: each name is the model's, and padding is left out.

In a shard of ZeRO the weights of a group lie one behind the other as one tensor, with padding that nobody ever wrote;
in one of FSDP a tensor is the inner part of another object. A reader's pieces say which bytes are whose.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import replace
from typing import TYPE_CHECKING

from orz_ckpt.formats.safetensors import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from orz_ckpt.formats.safetensors import Header
    from orz_ckpt.formats.torch_contents import TorchContents, View
    from orz_ckpt.tensors.source import Block, Packed, Piece, Source, SourceTensor

    Placed = tuple[SourceTensor, Piece]
    """A part of a tensor of a model, in a file."""


def pieces_by_file(source: Source) -> dict[Path, list[Placed]]:
    """Return what of each tensor lies in which file, in the order of the files' bytes."""
    found: dict[Path, list[Placed]] = {}
    for tensor in source.tensors.values():
        for piece in tensor.pieces:
            if piece.block.numel:
                found.setdefault(piece.block.path, []).append((tensor, piece))
    for placed in found.values():
        placed.sort(key=_begin)
    return found


def packed_by_file(source: Source) -> dict[Path, list[Packed]]:
    """Return which blocks with padding lie in which file."""
    found: dict[Path, list[Packed]] = {}
    for packed in source.packed:
        found.setdefault(packed.block.path, []).append(packed)
    return found


def cut(
    contents: TorchContents, placed: Sequence[Placed], packed: Sequence[Packed] = ()
) -> tuple[TorchContents, dict[str, Placed]]:
    """Cut the stretches of a torch file where tensors of the model begin and end.

    Args:
        contents: of the file.
        placed: what lies in it, in the order of its bytes.
        packed: blocks in it with padding: the states of an optimizer, weights of which other shards are missing.

    Returns:
        The contents with a stretch for each part of a tensor, and which part each of these is. What lies between parts
        in one stretch is padding, and is left out. Stretches without a part are as they were, but for those that are
        `packed`.
    """
    by_place = {(entry.block.offset, entry.block.nbytes): entry for entry in packed}
    tensors: list[Tensor] = []
    views = {}
    parts: dict[str, Placed] = {}
    begins = [_begin(entry) for entry in placed]
    for stretch in contents.tensors:
        inside = placed[bisect_left(begins, stretch.offset) : bisect_left(begins, stretch.end)]
        whole = [entry for entry in inside if entry[1].block.contiguous]
        known = by_place.get((stretch.offset, stretch.nbytes))
        if not inside and known is None:
            tensors.append(stretch)
            views[stretch.name] = contents.views[stretch.name]
        elif len(whole) < len(inside):  # transposed: its numbers lie side by side all the same
            tensors.append(stretch)
            views[stretch.name] = ((inside[0][0].name, inside[0][1].block),)
            parts[stretch.name] = inside[0]
        else:
            mine = {str(part[1].block.offset): part for part in _apart(whole)}
            named_parts = [(part[0].name, part[1].block) for part in mine.values()]
            others = [] if known is None else _unpacked(contents.views[stretch.name][0][0], known)
            # Where shards of others are missing, what is here of their tensors is no part of one that is whole.
            named_parts += [view for view in others if str(view[1].offset) not in mine]
            for view in sorted(named_parts, key=lambda view: view[1].offset):
                tensor = _stretch(view[1])
                tensors.append(tensor)
                views[tensor.name] = (view,)
            parts |= mine
    by_block = {entry[1].block: entry for entry in placed}
    scattered = {}
    for key, (name, block) in contents.scattered.items():
        part = by_block.get(block)
        scattered[key] = (part[0].name if part else name, block)
        parts |= {key: part} if part else {}
    used = {part[1].block for part in placed}
    named = {name: block for name, block in contents.named.items() if block not in used}
    named |= {tensor.name: piece.block for tensor, piece in placed}
    return replace(contents, tensors=tuple(tensors), views=views, scattered=scattered, named=named), parts


def parts_of_header(header: Header, placed: Sequence[Placed]) -> dict[str, Placed]:
    """Return which part of a tensor of the model each tensor of a safetensors file is."""
    by_offset = {_begin(entry): entry for entry in placed}
    return {tensor.name: by_offset[tensor.offset] for tensor in header.tensors if tensor.offset in by_offset}


def index_of(part: Placed, element: int) -> list[int]:
    """Return where in the whole tensor an element of its part is, counted from the part's first one in C order."""
    tensor, piece = part
    local = unravelled(element, piece.block.shape)
    if len(tensor.grid) == len(tensor.shape):
        return [first + step for first, step in zip(piece.start, local, strict=True)]
    return unravelled(piece.start[0] + local[0], tensor.shape)


def unravelled(element: int, shape: Sequence[int]) -> list[int]:
    """Return the index of an element of an array that is counted in C order."""
    index: list[int] = []
    for size in reversed(shape):
        element, rest = divmod(element, size)
        index.append(rest)
    return index[::-1]


def _unpacked(place: str, packed: Packed) -> Iterator[View]:
    """Yield what lies in a block with padding, by its place in the file and the tensor that it belongs to."""
    for name, begin, end in packed.held:
        if begin < end:
            yield f"{place} of {name}", packed.block.flat(begin, end)


def _stretch(block: Block) -> Tensor:
    """Return a contiguous block as a stretch of numbers."""
    return Tensor(
        name=str(block.offset), dtype=block.dtype, shape=(block.numel,), offset=block.offset, nbytes=block.nbytes
    )


def _apart(placed: Sequence[Placed]) -> list[Placed]:
    """Return those that do not begin inside one before them."""
    found: list[Placed] = []
    for entry in placed:
        if not found or _begin(entry) >= found[-1][1].block.offset + found[-1][1].block.nbytes:
            found.append(entry)
    return found


def _begin(entry: Placed) -> int:
    return entry[1].block.offset
