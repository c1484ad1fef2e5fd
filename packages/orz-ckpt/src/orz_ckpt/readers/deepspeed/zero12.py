"""ZeRO-1, ZeRO-2 and BF16_Optimizer: each group of parameters flattened, and cut into one partition a rank.

A group lies in the order of `param_shapes` (round-robin order where that is on), with `param_alignment_paddings`
behind each parameter where they are on. A partition has `ceil(elements / (2 ranks)) * 2` elements; behind the last
parameter is padding, which ZeRO-1 and ZeRO-2 leave out when they save and BF16_Optimizer does not. So a rank's
partition may be shorter than the others', and empty. DeepSpeed 0.19.8: `runtime/zero/stage_1_and_2.py`
(`DeepSpeedZeroOptimizer.__init__`, `_get_groups_without_padding`), `runtime/bf16_optimizer.py`
(`_setup_for_real_optimizer`). Until 0.5.2 the 2 was a 1.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from orz_ckpt.findings import finding
from orz_ckpt.readers.deepspeed.runs import divided_up, join
from orz_ckpt.readers.remedies import OTHER_SHARDS
from orz_ckpt.report.words import ranks as ranks_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from orz_ckpt.findings import CkptFinding
    from orz_ckpt.readers.deepspeed.states import OptimizerState, Shapes
    from orz_ckpt.tensors.source import Block, SourceTensor

_ALIGNMENTS: Final = (2, 1)


def masters(
    shapes: Sequence[Shapes], ranks: Mapping[int, OptimizerState], world_size: int
) -> tuple[dict[str, SourceTensor], list[CkptFinding]]:
    """Return the fp32 weights that the ranks at hand hold whole, and what does not add up.

    Args:
        shapes: of each group.
        ranks: those that are there, by number.
        world_size: how many there should be.
    """
    tensors: dict[str, SourceTensor] = {}
    findings: list[CkptFinding] = []
    for rank, state in ranks.items():
        if len(state.groups) != len(shapes):
            text = f"{ranks_text([rank])} has {len(state.groups)} groups of weights, the model's file {len(shapes)}"
            findings.append(finding("elements_differ", text, remedy=OTHER_SHARDS, path=state.path))
    if findings:
        return tensors, findings
    for index, group in enumerate(shapes):
        offsets, total = layout(group, index, ranks)
        partitions = {rank: state.groups[index] for rank, state in ranks.items()}
        size = partition_size(total, partitions, world_size)
        if size is None:
            findings.append(_wrong_sizes(index, total, ranks, partitions, world_size))
            continue
        for name, shape in group.items():
            tensor = join(name, shape, _cut(partitions, size, offsets[name], math.prod(shape)))
            if tensor is not None:
                tensors[name] = tensor
    return tensors, findings


def layout(group: Shapes, index: int, ranks: Mapping[int, OptimizerState]) -> tuple[dict[str, int], int]:
    """Return where each parameter begins, and how many elements the group has with the padding in it."""
    paddings = next((state.paddings for state in ranks.values() if state.paddings is not None), ())
    mine = paddings[index] if index < len(paddings) else ()
    offsets: dict[str, int] = {}
    end = begin = 0
    for position, (name, shape) in enumerate(group.items()):
        offsets[name] = begin
        end = begin + math.prod(shape)
        begin = end + (mine[position] if position < len(mine) else 0)
    return offsets, end


def partition_size(total: int, partitions: Mapping[int, Block | None], world_size: int) -> int | None:
    """Return the elements of a whole partition; None where what is there fits no way of cutting."""
    for alignment in _ALIGNMENTS:
        size = divided_up(total, alignment * world_size) * alignment
        if all(
            block is not None and block.numel in {size, _stripped(total, size, rank)}
            for rank, block in partitions.items()
        ):
            return size
    return None


def _stripped(total: int, size: int, rank: int) -> int:
    return min(max(total - rank * size, 0), size)


def _cut(partitions: Mapping[int, Block | None], size: int, begin: int, numel: int) -> Iterator[Block]:
    """Yield a parameter's elements, as far as they are there."""
    end = begin + numel
    while begin < end:
        rank = begin // size
        stop = min(end, (rank + 1) * size)
        block = partitions.get(rank)
        if block is not None:
            yield block.flat(begin - rank * size, stop - rank * size)
        begin = stop


def _wrong_sizes(
    index: int,
    total: int,
    ranks: Mapping[int, OptimizerState],
    partitions: Mapping[int, Block | None],
    world_size: int,
) -> CkptFinding:
    size = divided_up(total, _ALIGNMENTS[0] * world_size) * _ALIGNMENTS[0]
    wrong = {
        rank: 0 if block is None else block.numel
        for rank, block in partitions.items()
        if block is None or block.numel not in {size, _stripped(total, size, rank)}
    }
    first = min(wrong)
    return finding(
        "elements_differ",
        f"group {index} has {total:,} elements, so {ranks_text([first])} of {world_size} has to hold "
        f"{_stripped(total, size, first):,} of them, and holds {wrong[first]:,} ({ranks_text(wrong)} not right)",
        remedy=OTHER_SHARDS,
        path=ranks[first].path,
    )
