"""Whose elements a rank's flat tensors hold, and which are padding, told by one rank's shards as well as by all.

ZeRO-3 pads each parameter to a multiple of the ranks, ZeRO-1, ZeRO-2 and BF16_Optimizer each group. ZeRO-3 leaves in
the padding what was in memory (DeepSpeed 0.19.8, `runtime/zero/partition_parameters.py`: `torch.empty`), now and then a
NaN; Adam's averages are laid out like the weights, and take it over. Only how many ranks there are and the shapes of
all parameters have to be known: each rank's own files say both.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING

from orz_ckpt.readers.deepspeed import zero3, zero12
from orz_ckpt.tensors.source import Packed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from orz_ckpt.readers.deepspeed.states import ModelState, OptimizerState, Shapes

    Held = tuple[tuple[str, int, int], ...]
    """See `Packed.held`."""


def packed_slices(shapes: Sequence[Shapes], states: Mapping[int, OptimizerState], world_size: int) -> Iterator[Packed]:
    """Yield the flat tensors of ZeRO-3's optimizers; none of a rank whose sub-groups do not fit the shapes.

    Args:
        shapes: of each sub-group.
        states: of the ranks that are there, by number.
        world_size: how many there are.
    """
    parameters = [(name, math.prod(shape)) for group in shapes for name, shape in group.items()]
    sizes = [zero3.slice_size(shape, world_size) for group in shapes for shape in group.values()]
    begins = list(accumulate(sizes, initial=0))
    for rank, state in states.items():
        numels = [0 if block is None else block.numel for block in state.groups]
        if sum(numels) != begins[-1]:
            continue
        line = tuple(
            (name, begin, begin + min(max(numel - rank * size, 0), size))
            for (name, numel), size, begin in zip(parameters, sizes, begins[:-1], strict=True)
        )
        first = 0
        for index, numel in enumerate(numels):
            near = line[max(bisect_right(begins, first) - 1, 0) : bisect_right(begins, first + numel)]
            yield from _of_group(state, index, numel, _within(near, first, first + numel))
            first += numel


def packed_fragments(models: Mapping[int, ModelState], world_size: int) -> Iterator[Packed]:
    """Yield the slices of frozen parameters in the model files of ZeRO-3.

    Args:
        models: of the ranks that are there, by number.
        world_size: how many there are.
    """
    for rank, model in models.items():
        for name, shape in model.frozen_shapes.items():
            size, numel = zero3.slice_size(shape, world_size), math.prod(shape)
            fragment = model.frozen_fragments.get(name)
            if fragment is not None and fragment.contiguous and fragment.numel == size:
                held = (name, 0, min(max(numel - rank * size, 0), size))
                yield Packed(block=fragment.flat(0, size), held=(held,))


def packed_partitions(
    shapes: Sequence[Shapes], states: Mapping[int, OptimizerState], world_size: int
) -> Iterator[Packed]:
    """Yield the flat tensors of the optimizers of ZeRO-1, ZeRO-2 and BF16_Optimizer; none where they do not fit.

    Args:
        shapes: of each group.
        states: of the ranks that are there, by number.
        world_size: how many there are.
    """
    if any(len(state.groups) != len(shapes) for state in states.values()):
        return
    for index, group in enumerate(shapes):
        offsets, total = zero12.layout(group, index, states)
        size = zero12.partition_size(total, {rank: state.groups[index] for rank, state in states.items()}, world_size)
        if size is None:
            continue
        line = tuple((name, offsets[name], offsets[name] + math.prod(shape)) for name, shape in group.items())
        for rank, state in states.items():
            # Moments keep the padding that the weights beside them are saved without.
            yield from _of_group(state, index, size, _within(line, rank * size, (rank + 1) * size))


def _of_group(state: OptimizerState, index: int, numel: int, held: Held) -> Iterator[Packed]:
    """Yield a group's weights and moments, as far as they have the elements that are held and at most `numel`."""
    end = max((end for _, _, end in held), default=0)
    for block in (state.groups[index], *state.moments.get(index, ())):
        if block is not None and end <= block.numel <= numel:
            yield Packed(block=block, held=held)


def _within(line: Held, begin: int, end: int) -> Held:
    """Return what lies between two elements of a line, counted from the first of them."""
    return tuple(
        (name, max(first, begin) - begin, min(last, end) - begin)
        for name, first, last in line
        if max(first, begin) < min(last, end)
    )
