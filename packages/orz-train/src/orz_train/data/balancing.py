"""Dealing samples into mini-batches, and rows to ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
import torch

from orz_train.types import PackedRow, TrainRow

Item = TypeVar("Item")


def minibatches(items: Sequence[Item], num: int, *, seed: int, step: int, epoch: int = 0) -> list[list[Item]]:
    """Deal items into `num` mini-batches, every one once, sizes equal to within one.

    A function of (seed, step, epoch) and the items' order alone. Items are rollouts, dealt before they are
    packed: rows never straddle mini-batches, so row size and ranks never change which tokens an update sees.
    With one mini-batch the order stays.

    Raises:
        ValueError: more mini-batches than items.
    """
    if num > len(items):
        raise ValueError(f"{num} mini-batches of {len(items)} rollouts: some would be empty")
    if num == 1:
        return [list(items)]
    # ranks of raw bits, which unlike NumPy's shuffles are the same in every version of NumPy
    order = np.argsort(np.random.Philox(key=[seed, (step << 16) + epoch]).random_raw(len(items)), kind="stable")
    return [[items[i] for i in sorted(part)] for part in np.array_split(order, num)]


def balance(rows: Sequence[TrainRow], num_ranks: int) -> list[list[TrainRow]]:
    """Deal rows to D ranks, as `deal` does, equally many each: the shortest, masked, fills up.

    Args:
        rows: B rows.
        num_ranks: D.

    Returns:
        D lists of ceil(B / D) rows.
    """
    if num_ranks == 1:
        return [list(rows)]
    shortest = min(rows, key=lambda row: len(row.row.token_ids_T))
    dealt = deal([len(row.row.token_ids_T) for row in rows], num_ranks)
    return filled(rows, dealt, replace(shortest, row=masked(shortest.row)))


def deal(lengths: Sequence[int], num_ranks: int) -> list[list[int]]:
    """Deal rows to D ranks: longest first, each to the rank with the fewest tokens that still has room.

    Args:
        lengths: tokens of each of B rows.
        num_ranks: D.

    Returns:
        D lists of at most ceil(B / D) indices, rising; some list has that many.
    """
    per_rank = -(-len(lengths) // num_ranks)
    shards: list[list[int]] = [[] for _ in range(num_ranks)]
    loads = [0] * num_ranks
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        rank = min((r for r in range(num_ranks) if len(shards[r]) < per_rank), key=lambda r: (loads[r], r))
        shards[rank].append(index)
        loads[rank] += lengths[index]
    return [sorted(shard) for shard in shards]


def filled(items: Sequence[Item], dealt: Sequence[Sequence[int]], filler: Item) -> list[list[Item]]:
    """Make the shards of dealt items equally long, with fillers behind.

    Args:
        items: what was dealt.
        dealt: for each of D ranks the indices of its items.
        filler: counts for nothing, such as a `masked` row.

    Returns:
        D lists, all as long as the longest of `dealt`.
    """
    most = max(len(indices) for indices in dealt)
    return [[items[i] for i in indices] + [filler] * (most - len(indices)) for indices in dealt]


def masked(row: PackedRow) -> PackedRow:
    """Copy a row with an empty action mask: it adds nothing to any loss."""
    return replace(row, action_mask_T=torch.zeros_like(row.action_mask_T))
