"""Are the numbers of a file numbers: NaN, infinity, weights of zeros."""

from __future__ import annotations

from operator import mul
from typing import TYPE_CHECKING

from orz_ckpt.checks.strided import once
from orz_ckpt.findings import CkptFinding, finding
from orz_ckpt.formats.cut_contents import index_of, unravelled
from orz_ckpt.quoting import brief
from orz_ckpt.tensors.floats import FLOATS
from orz_ckpt.tensors.source import Block, c_strides

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from orz_ckpt.checks.content import Job
    from orz_ckpt.disk.reading import Numbers, Reading
    from orz_ckpt.formats.cut_contents import Placed

    View = tuple[str, Block]

_OLDER = "use an older checkpoint; look at the losses and gradient norms before this step"
_MAX_NAMED = 3
_UNSEARCHED = frozenset({"F4", "F6_E2M3", "F6_E3M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"})


def not_finite(job: Job, reading: Reading) -> Iterator[CkptFinding]:
    """Say which tensors hold NaN or infinity, and where the first of them is."""
    bad = [(key, views) for key, views in _searched(job).items() if reading.numbers[key].nonfinite]
    for key, views in bad[:_MAX_NAMED]:
        strided = job.torch is not None and key in job.torch.scattered
        name, message = _first(views, reading.numbers[key], job.parts.get(key), strided=strided)
        yield finding("not_finite", message, remedy=_OLDER, path=job.path, tensor=name)
    if len(bad) > _MAX_NAMED:
        message = f"and {len(bad) - _MAX_NAMED} more tensors hold NaN or Inf"
        yield finding("not_finite", message, remedy=_OLDER, path=job.path)
    contents = job.header or job.torch
    types = {tensor.dtype for tensor in contents.tensors} if contents else set()
    types |= {block.dtype for _, block in job.torch.scattered.values()} if job.torch else set()
    others = sorted(types & _UNSEARCHED)
    if others:
        message = f"tensors of type {', '.join(others)} were not searched for NaN"
        yield finding("numbers_not_checked", message, path=job.path)


def zero_matrices(job: Job, reading: Reading) -> tuple[int, list[str]]:
    """Return how many weights of two dimensions or more there are, and which of them are all zeros."""
    matrices = {
        key: views[0][0]
        for key, views in _searched(job).items()
        if all(len(block.shape) > 1 and block.numel for _, block in views)
    }
    return len(matrices), [name for key, name in matrices.items() if reading.numbers[key].largest == 0]


def _searched(job: Job) -> Mapping[str, tuple[View, ...]]:
    """Return the tensors in each stretch of numbers that is searched; in a safetensors file each has its own."""
    if job.torch:
        searched = {tensor.name: job.torch.views[tensor.name] for tensor in job.torch.tensors if tensor.dtype in FLOATS}
        return searched | {key: (view,) for key, view in job.torch.scattered.items() if view[1].dtype in FLOATS}
    return {
        tensor.name: (
            (
                tensor.name,
                Block(
                    path=job.path,
                    offset=tensor.offset,
                    dtype=tensor.dtype,
                    shape=tensor.shape,
                    strides=c_strides(tensor.shape),
                ),
            ),
        )
        for tensor in (job.header.tensors if job.header else ())
        if tensor.dtype in FLOATS
    }


def largest_of_weights(job: Job, reading: Reading) -> dict[str, int]:
    """Return the largest magnitude that this file has of each tensor of the model, as bits without sign."""
    largest: dict[str, int] = {}
    for key, (tensor, _) in job.parts.items():
        if key in reading.numbers:
            largest[tensor.name] = max(largest.get(tensor.name, 0), reading.numbers[key].largest)
    return largest


def only_of_weights(job: Job, reading: Reading) -> dict[str, int | None]:
    """Return the bits that all numbers have which this file has of each tensor of the model; None where two differ."""
    found: dict[str, set[int | None]] = {}
    for key, (tensor, _) in job.parts.items():
        if key in reading.numbers:
            found.setdefault(tensor.name, set()).add(reading.numbers[key].only)
    return {name: values.pop() if len(values) == 1 else None for name, values in found.items()}


def _first(views: tuple[View, ...], numbers: Numbers, part: Placed | None, *, strided: bool) -> tuple[str, str]:
    """Return the tensor with the first number that is none, and what to say of it."""
    if strided:
        ((name, block),) = views
        index = unravelled(numbers.first_nonfinite, once(block).shape)
        byte = block.offset + sum(map(mul, index, block.strides)) * block.itemsize
        place = index_of(part, sum(map(mul, index, c_strides(block.shape)))) if part else index
        return name, f"{brief(name)}: {_said(numbers, once(block).numel)} {place}, byte {byte:,}"
    begin = min(block.offset for _, block in views)
    kind = FLOATS[views[0][1].dtype]
    byte = begin + numbers.first_nonfinite * kind.nbytes
    name, block = next((view for view in views if _holds(view[1], byte)), views[0])
    whole = max(block.offset + block.nbytes for _, block in views) - begin
    count = block.numel if len(views) == 1 else whole // block.itemsize
    element = (byte - block.offset) // block.itemsize
    place = index_of(part, element) if part and block.contiguous else _coordinates(block, element)
    return name, f"{brief(name)}: {_said(numbers, count)} {place}, byte {byte:,}"


def _said(numbers: Numbers, count: int) -> str:
    return f"{numbers.nonfinite:,} of {count:,} numbers are NaN or Inf, first at"


def _holds(block: Block, byte: int) -> bool:
    return block.offset <= byte < block.offset + block.nbytes


def _coordinates(block: Block, element: int) -> list[int]:
    """Return the index of an element that lies `element` elements behind the first."""
    return [element // stride % size if stride else 0 for size, stride in zip(block.shape, block.strides, strict=True)]
