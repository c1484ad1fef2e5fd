"""Without ZeRO: one file with the whole module, and in 16-bit training the fp32 weights in the optimizer's state.

Those have no names: `fp32_groups` is a list of tensors a group (DeepSpeed 0.19.8, `runtime/fp16/
unfused_optimizer.py`), `fp32_groups_flat` one flattened tensor a group (`fused_optimizer.py`). Names are found again by
what both copies have in common: the next weight of a group belongs to the next parameter of the module whose shape and
rounded numbers it has. Some numbers of each are read for this. Where that leaves a doubt, the fp32 weights stay unused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orz_ckpt.readers.deepspeed.ends import comparable, first_unlike
from orz_ckpt.readers.deepspeed.rounding import Rounding
from orz_ckpt.readers.deepspeed.runs import Run, join
from orz_ckpt.tensors.source import Block

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orz_ckpt.readers.deepspeed.states import ModelState
    from orz_ckpt.tensors.source import SourceTensor


def has_masters(model: ModelState) -> bool:
    """Return whether there are fp32 weights beside the module."""
    return bool(_groups(model))


def masters(model: ModelState, names: Sequence[str]) -> dict[str, SourceTensor] | None:
    """Return the fp32 weights by name, None where names cannot be told for sure.

    Args:
        model: the only file.
        names: of the module's parameters in their order, each tied one once.

    Raises:
        OSError: the file cannot be read.
    """
    groups = _groups(model)
    begins = [0] * len(groups)
    found: dict[str, SourceTensor] = {}
    skipped: list[Block] = []
    with Rounding() as rounding:
        for name in names:
            block = (model.module or {})[name]
            candidates = [
                index
                for index, group in enumerate(groups)
                if group.fits(begins[index], block) and _same(rounding, group.run, begins[index], block)
            ]
            if len(candidates) > 1:
                return None
            skipped += [block] * (not candidates)
            for index in candidates:
                end = begins[index] + block.numel
                tensor = join(name, block.shape, groups[index].run.cut(begins[index], end))
                if tensor is None:
                    return None
                found[name], begins[index] = tensor, end
        twins = ((tensor, block) for tensor in found.values() for block in skipped if tensor.shape == block.shape)
        if any(_rounds(rounding, tensor, block) for tensor, block in twins):
            return None  # a frozen weight with the same numbers: which of the two is trained?
    return found if all(begin == group.run.numel for begin, group in zip(begins, groups, strict=True)) else None


class _Group:
    """The fp32 weights of one group, one behind the other."""

    def __init__(self, blocks: Sequence[Block], *, flattened: bool) -> None:
        self.run = Run(tuple(block.flat(0, block.numel) for block in blocks))
        self._shapes: dict[int, tuple[int, ...]] | None = None
        if not flattened:
            ends = [sum(block.numel for block in blocks[:index]) for index in range(len(blocks))]
            self._shapes = {begin: block.shape for begin, block in zip(ends, blocks, strict=True) if block.numel}

    def fits(self, begin: int, block: Block) -> bool:
        """Return whether the weight at `begin` may be a copy of `block`."""
        if not block.numel or begin + block.numel > self.run.numel:
            return False
        return self._shapes is None or self._shapes.get(begin) == block.shape


def _groups(model: ModelState) -> list[_Group]:
    flat = _contiguous(model.optimizer.get("fp32_groups_flat"))
    if flat:
        return [_Group([block], flattened=True) for block in flat]
    lists = model.optimizer.get("fp32_groups")
    groups = [_contiguous(group) for group in lists] if isinstance(lists, (list, tuple)) else []
    return [_Group(group, flattened=False) for group in groups if group]


def _contiguous(value: object) -> list[Block]:
    """Return a list of contiguous tensors; an empty one where it is something else."""
    items = value if isinstance(value, (list, tuple)) else ()
    blocks = [item for item in items if isinstance(item, Block) and item.contiguous]
    return blocks if len(blocks) == len(items) else []


def _same(rounding: Rounding, group: Run, begin: int, block: Block) -> bool:
    """Return whether the weight that begins there rounds to `block`."""
    master = join("", block.shape, group.cut(begin, begin + block.numel))
    return master is not None and _rounds(rounding, master, block)


def _rounds(rounding: Rounding, master: SourceTensor, block: Block) -> bool:
    """Return whether both ends of a weight round to those of `block`."""
    return comparable(master, block) and first_unlike(rounding, master, block) < 0


def order(model: ModelState, aliases: Mapping[str, str]) -> list[str]:
    """Return the names of the module's parameters, each tied one once."""
    return [name for name in model.module or {} if name not in model.buffer_names and name not in aliases]
