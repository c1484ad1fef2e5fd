"""Which ranks of a save hold the same parts of all tensors, as the file of one of them says.

With hybrid sharding (HSDP) a mesh has dimensions that cut tensors, and others along which ranks hold copies.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from orz_ckpt.readers.dtensor import ShardingError, is_dtensor, parts_of, spread_of
from orz_ckpt.tensors.source import Block

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orz_ckpt.readers.dtensor import Spread


def replicas(state: Mapping[str, object], *, rank: int, world_size: int) -> list[list[int]] | None:
    """Return the ranks that hold the same, as lists of two or more.

    A tensor that is no part of a larger one says nothing of other ranks; where all are such, each rank may hold others.

    Args:
        state: what the file of a rank holds: name -> tensor.
        rank: whose file it is.
        world_size: number of ranks.

    Returns:
        None where ranks hold copies, and this file does not say which.
    """
    spreads: set[Spread] = set()
    try:
        for name, value in state.items():
            if isinstance(value, Block) or name.endswith("_extra_state"):
                continue
            if is_dtensor(value):
                spreads.add(spread_of(value, rank=rank))
            elif any(_is_too_large(part.shape, part.block.shape, world_size) for part in parts_of(value, rank=rank)):
                return None
    except ShardingError:
        return []  # `verify` says what is not understood
    if any(not spread.in_order or math.prod(spread.mesh) != world_size for spread in spreads):
        return None
    alike: dict[tuple[tuple[int, ...], ...], list[int]] = {}
    for other in range(world_size if spreads else 0):
        alike.setdefault(tuple(spread.place(other) for spread in spreads), []).append(other)
    return [ranks for ranks in alike.values() if len(ranks) > 1]


def _is_too_large(shape: tuple[int, ...], held: tuple[int, ...], world_size: int) -> bool:
    """Return whether a rank holds more of a tensor than its share where all ranks cut the first dimension."""
    return bool(shape) and held[0] > -(-shape[0] // world_size)
