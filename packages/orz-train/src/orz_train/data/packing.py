"""Rollouts into packed rows, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from orz_train.types import FinishReason, PackedRow, Rollout


def assign_rows(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Assign sequences to rows: longest first, each to the first row with room (first-fit decreasing).

    Fills at most 11/9 of the fewest rows possible, plus one (Dosa 2007). A function of the lengths alone.

    Args:
        lengths: tokens of each sequence.
        max_tokens: tokens a row holds.

    Returns:
        For each row the indices of its sequences, rising; rows by their first sequence.

    Raises:
        ValueError: a sequence is longer than a row.
    """
    rows: list[list[int]] = []
    room: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        length = lengths[index]
        if length > max_tokens:
            raise ValueError(f"sequence {index} has {length} tokens, a row holds {max_tokens}")
        for row, free in enumerate(room):
            if length <= free:
                rows[row].append(index)
                room[row] -= length
                break
        else:
            rows.append([index])
            room.append(max_tokens - length)
    return sorted(sorted(row) for row in rows)


@dataclass(frozen=True, kw_only=True, slots=True)
class Packing:
    """How rollouts become rows, the same for scoring and for every update."""

    max_tokens: int
    """Tokens a row holds."""
    mask_truncated: bool = False
    """Leave the actions of truncated responses out of the action mask."""


def pack(rollouts: Sequence[Rollout], packing: Packing) -> list[PackedRow]:
    """Pack N rollouts into B rows; every token is kept.

    Raises:
        ValueError: a rollout is longer than a row.
    """
    assignment = assign_rows([len(rollout.token_ids) for rollout in rollouts], packing.max_tokens)
    return [_pack_row(rollouts, row, packing) for row in assignment]


def _pack_row(rollouts: Sequence[Rollout], indices: Sequence[int], packing: Packing) -> PackedRow:
    """Lay the rollouts at `indices` end to end in one row.

    Raises:
        ValueError: a rollout has no prompt token, or not one sampler log-prob for each response token.
    """
    rollouts = [rollouts[index] for index in indices]
    for rollout in rollouts:
        _check(rollout)
    lens_S = [len(rollout.token_ids) for rollout in rollouts]
    segment_ids_T = torch.repeat_interleave(torch.arange(len(lens_S), dtype=torch.int32), torch.tensor(lens_S))
    action_mask_T = torch.zeros(sum(lens_S), dtype=torch.bool)
    sampler_logprobs_T = torch.zeros(sum(lens_S))
    start = 0
    for rollout, length in zip(rollouts, lens_S, strict=True):
        response = slice(start + rollout.prompt_len, start + length)
        if not (packing.mask_truncated and rollout.finish is FinishReason.LENGTH):
            action_mask_T[response] = True
            sampler_logprobs_T[response] = torch.tensor(rollout.sampler_logprobs)
        start += length
    return PackedRow(
        token_ids_T=torch.tensor([token for rollout in rollouts for token in rollout.token_ids]),
        position_ids_T=torch.cat([torch.arange(length) for length in lens_S]),
        segment_ids_T=segment_ids_T,
        action_mask_T=action_mask_T,
        sampler_logprobs_T=sampler_logprobs_T,
        seq_lens_S=tuple(lens_S),
        rollout_ids=tuple(rollout.rollout_id for rollout in rollouts),
        indices_S=tuple(indices),
    )


def _check(rollout: Rollout) -> None:
    """Refuse what would train on the wrong tokens without a word."""
    if not 1 <= rollout.prompt_len <= len(rollout.token_ids):
        raise ValueError(
            f"{rollout.rollout_id}: prompt_len is {rollout.prompt_len} of {len(rollout.token_ids)} tokens; without a"
            " prompt token nothing predicts the first action, or in a row the sequence before it would"
        )
    if len(rollout.sampler_logprobs) != rollout.response_len:
        raise ValueError(
            f"{rollout.rollout_id}: {len(rollout.sampler_logprobs)} sampler log-probs for"
            f" {rollout.response_len} response tokens"
        )


def unpack(rows: Sequence[PackedRow], tensors: Sequence[Tensor]) -> list[Tensor]:
    """Cut B tensors [T] into one [L] for each sequence, in the order that was packed."""
    pieces = {
        index: piece
        for row, x_T in zip(rows, tensors, strict=True)
        for index, piece in zip(row.indices_S, torch.split(x_T, list(row.seq_lens_S)), strict=True)
    }
    return [pieces[index] for index in range(len(pieces))]
