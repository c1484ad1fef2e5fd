"""Policy and value losses over action tokens, and the weights that make them means.

Every loss takes `weights_K`, the share of each token in the mean, made once for a whole optimizer step by
`token_weights`. Losses of rows then add up to the loss of the step, however the step is cut into rows,
micro-batches and ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, assert_never

import torch
from torch import Tensor

from orz_train.algo.advantages import FLOAT_NOISE

LossReduction = Literal["token_mean", "sequence_mean", "row_mean"]


def token_weights(
    segment_ids: Sequence[Tensor], reduction: LossReduction, *, dtype: torch.dtype = torch.float32
) -> list[Tensor]:
    """Give each action token of an optimizer step its weight; they add up to 1, or to 0 where there is none.

    - `token_mean`: 1 / (all tokens), as DAPO (Yu et al. 2025, arXiv 2503.14476, equation 8).
    - `sequence_mean`: 1 / (sequences * tokens of its sequence), as GRPO's paper.
    - `row_mean`: 1 / (rows * tokens of its row), as ORZ; depends on how sequences were packed.

    Sequences and rows without an action count nowhere: masking a sequence is removing it.

    Args:
        segment_ids: B tensors [K] int, for each row the sequence that each action belongs to.
        reduction: which mean.
        dtype: of the weights.

    Returns:
        B tensors [K].
    """
    total = sum(len(ids_K) for ids_K in segment_ids)
    counts = [_segments_and_lengths(ids_K) for ids_K in segment_ids]
    num_rows = sum(len(ids_K) > 0 for ids_K in segment_ids)
    num_sequences = sum(len(count) for _, count in counts)
    match reduction:
        case "token_mean":
            return [torch.full_like(ids_K, 1 / max(total, 1), dtype=dtype) for ids_K in segment_ids]
        case "sequence_mean":
            return [(1 / (num_sequences * count[of_K].to(dtype))).to(dtype) for of_K, count in counts]
        case "row_mean":
            return [torch.full_like(ids_K, 1 / max(num_rows * len(ids_K), 1), dtype=dtype) for ids_K in segment_ids]
    assert_never(reduction)


def _segments_and_lengths(segment_ids_K: Tensor) -> tuple[Tensor, Tensor]:
    """Return which sequence, counted from 0, each action belongs to [K], and the actions of each [S]."""
    _, of_K, count_S = torch.unique_consecutive(segment_ids_K, return_inverse=True, return_counts=True)
    return of_K, count_S


def clipped_policy_loss(
    logprobs_K: Tensor,
    old_logprobs_K: Tensor,
    advantages_K: Tensor,
    weights_K: Tensor,
    *,
    clip_low: float,
    clip_high: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute PPO's clipped surrogate (Schulman et al. 2017, arXiv 1707.06347, equation 7), to be minimised.

        ratio  = exp(logprob - old_logprob)
        loss_k = -min(ratio * A, clip(ratio, 1 - clip_low, 1 + clip_high) * A)

    Args:
        logprobs_K: [K] under the policy in training.
        old_logprobs_K: [K] under the policy before this step's first update.
        advantages_K: [K].
        weights_K: [K] of `token_weights`.
        clip_low: distance of the lower bound from 1.
        clip_high: distance of the upper bound from 1.

    Returns:
        The weighted sum (scalar), each token's loss [K], and [K] bool, True where the bound binds: the loss
        there is flat, and the token no longer pushes.
    """
    ratio_K = (logprobs_K - old_logprobs_K).exp()
    bounded_K = ratio_K.clamp(1 - clip_low, 1 + clip_high)
    loss_K = -torch.minimum(ratio_K * advantages_K, bounded_K * advantages_K)
    binds_K = bounded_K * advantages_K < ratio_K * advantages_K
    return (weights_K * loss_K).sum(), loss_K, binds_K


def clipped_value_loss(
    values_K: Tensor, old_values_K: Tensor, returns_K: Tensor, weights_K: Tensor, *, value_clip: float | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the squared error of values, clipped around the rollout's (the PPO2 form, used by ORZ).

        bounded = clip(value, old_value - value_clip, old_value + value_clip)
        loss_k  = max((value - R)^2, (bounded - R)^2) / 2

    Args:
        values_K: [K] of the critic in training.
        old_values_K: [K] of the critic before this step's first update.
        returns_K: [K] targets.
        weights_K: [K] of `token_weights`.
        value_clip: distance; None never clips.

    Returns:
        The weighted sum (scalar), each token's loss [K], and [K] bool, True where the bound binds.
    """
    error_K = (values_K - returns_K).square()
    if value_clip is None:
        bounded_error_K = error_K
    else:
        # not old + clip(value - old): that rounds inside the bounds too, and rounding would count as clipping
        bounded_K = values_K.clamp(old_values_K - value_clip, old_values_K + value_clip)
        bounded_error_K = (bounded_K - returns_K).square()
    loss_K = torch.maximum(error_K, bounded_error_K) / 2
    return (weights_K * loss_K).sum(), loss_K, bounded_error_K > error_K


def explained_variance(returns_K: Tensor, values_K: Tensor) -> float:
    """Compute 1 - Var(R - V) / Var(R) over all action tokens of a step; NaN if the returns don't vary.

    From the whole step at once: a mean of the explained variances of its parts is another number. A spread that
    is only float noise counts as none; divided by, it would give numbers such as -1e13.
    """
    if not returns_K.numel():
        return float("nan")
    returns, values = returns_K.double(), values_K.double()
    spread = returns.var(correction=0)
    varies = spread.sqrt() > FLOAT_NOISE * returns.abs().max().clamp(min=1)
    return float(1 - (returns - values).var(correction=0) / spread) if varies else float("nan")
