"""ZeRO-3: each parameter flattened and cut into one slice a rank; a rank's slices lie one behind the other.

Of a parameter with n elements each of R ranks holds `ceil(n / R)`; behind the last element is padding. A rank's slices
lie in the order of `param_shapes`, cut into sub-groups (`sub_group_size`) that are saved as tensors of their own.
Frozen parameters are slices in each rank's model file, in the precision of training. DeepSpeed 0.19.8:
`runtime/zero/stage3.py` (`_create_fp16_partitions_with_defragmentation`, `_rigid_state_dict`),
`runtime/zero/partition_parameters.py`, `runtime/engine.py` (`_get_zero_frozen_param_attributes`). In older versions
a slice can lie across two sub-groups.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from orz_ckpt.findings import finding
from orz_ckpt.readers.deepspeed.runs import Run, divided_up, join
from orz_ckpt.readers.remedies import OTHER_SHARDS
from orz_ckpt.report.words import ranks as ranks_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from orz_ckpt.findings import CkptFinding
    from orz_ckpt.readers.deepspeed.states import ModelState, OptimizerState, Shapes
    from orz_ckpt.tensors.source import Block, SourceTensor


def masters(
    shapes: Sequence[Shapes], ranks: Mapping[int, OptimizerState], world_size: int
) -> tuple[dict[str, SourceTensor], list[CkptFinding]]:
    """Return the fp32 weights that the ranks at hand hold whole, and what does not add up.

    Args:
        shapes: of each sub-group.
        ranks: those that are there, by number.
        world_size: how many there should be.
    """
    swapped = [rank for rank, state in ranks.items() if _swapped(shapes, state, world_size)]
    if swapped:
        return {}, [_on_nvme(swapped, ranks)]
    findings = [
        unlike for rank, state in ranks.items() if (unlike := _unlike(shapes, rank, state, world_size)) is not None
    ]
    if findings:
        return {}, findings
    runs = {rank: Run(tuple(block for block in state.groups if block is not None)) for rank, state in ranks.items()}
    tensors: dict[str, SourceTensor] = {}
    begin = 0
    for group in shapes:
        for name, shape in group.items():
            size = slice_size(shape, world_size)
            tensor = join(name, shape, _cut(runs, begin, size, math.prod(shape)))
            if tensor is not None:
                tensors[name] = tensor
            begin += size
    return tensors, findings


def frozen(ranks: Mapping[int, ModelState], world_size: int) -> tuple[dict[str, SourceTensor], list[CkptFinding]]:
    """Return the parameters that the optimizer does not own, from the model files of the ranks at hand."""
    shapes = next((state.frozen_shapes for state in ranks.values()), {})
    tensors: dict[str, SourceTensor] = {}
    findings: list[CkptFinding] = []
    for name, shape in shapes.items():
        size, numel = slice_size(shape, world_size), math.prod(shape)
        slices = {
            rank: Run((fragment.flat(0, fragment.numel),))
            for rank, state in ranks.items()
            if (fragment := state.frozen_fragments.get(name)) is not None and fragment.contiguous
        }
        wrong = sorted(rank for rank in ranks if rank not in slices or slices[rank].numel != size)
        if wrong:
            first = wrong[0]
            held = slices[first].numel if first in slices else 0
            findings.append(
                finding(
                    "elements_differ",
                    f"{ranks_text([first])} has to hold {size:,} elements of the frozen parameter, and holds {held:,}",
                    remedy=OTHER_SHARDS,
                    path=ranks[first].path,
                    tensor=name,
                )
            )
            continue
        blocks = _cut(slices, 0, size, numel) if numel else (run.blocks[0] for run in list(slices.values())[:1])
        tensor = join(name, shape, blocks)
        if tensor is not None:
            tensors[name] = tensor
    return tensors, findings


def slice_size(shape: tuple[int, ...], world_size: int) -> int:
    """Return how many elements of a parameter each rank holds, with padding."""
    return divided_up(math.prod(shape), world_size)


def _cut(runs: Mapping[int, Run], begin: int, size: int, numel: int) -> Iterator[Block]:
    """Yield a parameter's elements, as far as they are there."""
    for rank in sorted(runs):
        length = min(max(numel - rank * size, 0), size)
        yield from runs[rank].cut(begin, begin + length)


def _sizes(shapes: Sequence[Shapes], world_size: int) -> list[int]:
    return [sum(slice_size(shape, world_size) for shape in group.values()) for group in shapes]


def _swapped(shapes: Sequence[Shapes], state: OptimizerState, world_size: int) -> bool:
    """Return whether a sub-group is empty that should not be."""
    sizes = _sizes(shapes, world_size)
    if len(sizes) != len(state.groups):
        return any(block is None for block in state.groups)
    return any(size and (block is None or not block.numel) for size, block in zip(sizes, state.groups, strict=True))


def _unlike(shapes: Sequence[Shapes], rank: int, state: OptimizerState, world_size: int) -> CkptFinding | None:
    """Say where a rank's sub-groups do not have the elements that their parameters need."""
    expected, held = _sizes(shapes, world_size), [0 if block is None else block.numel for block in state.groups]
    if len(expected) == len(held):
        wrong = [index for index, size in enumerate(expected) if size != held[index]]
        if not wrong:
            return None
        where, need, has = f"sub-group {wrong[0]}", expected[wrong[0]], held[wrong[0]]
    elif sum(expected) != sum(held):
        where, need, has = f"{len(held)} sub-groups", sum(expected), sum(held)
    else:
        return None
    return finding(
        "elements_differ",
        f"{ranks_text([rank])} of {world_size} has to hold {need:,} elements in {where}, and holds {has:,}",
        remedy=OTHER_SHARDS,
        path=state.path,
    )


def _on_nvme(swapped: list[int], ranks: Mapping[int, OptimizerState]) -> CkptFinding:
    return finding(
        "weights_swapped",
        f"the fp32 weights of {ranks_text(swapped)} were on NVMe when the checkpoint was saved (offload_optimizer: "
        "nvme): their shards are empty, and `offloaded_tensors` holds a copy that only DeepSpeed itself can read",
        remedy="load it with the configuration that saved it and call engine.save_16bit_model()",
        path=ranks[min(swapped)].path,
    )
