"""From rewards to advantages."""

from __future__ import annotations

import torch
from torch import Tensor

from orz_train.algo.segments import is_last, reverse_scan

FLOAT_NOISE = 1e-6
"""A standard deviation up to this counts as 0, relative to the size of the numbers or to 1, whichever is larger:
float noise is no signal."""


def gae(
    rewards_K: Tensor,
    values_K: Tensor | None,
    segment_ids_K: Tensor,
    *,
    gamma: float,
    lam: float,
    bootstrap_values_S: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Compute generalised advantage estimates (Schulman et al. 2016, arXiv 1506.02438, equation 16).

    Over the actions k of one sequence:

        delta_k = r_k + gamma * V_{k+1} - V_k
        A_k     = delta_k + gamma * lam * A_{k+1}
        R_k     = A_k + V_k

    After a sequence's last action V is 0, or its bootstrap value. Tokens that are not actions take no part:
    the next action is the next state, however many observation tokens lie between. Works in f64: over 30,000
    tokens f32 would leave returns that should be equal 1e-6 apart.

    Args:
        rewards_K: [K] float.
        values_K: [K], V before each action; None counts as 0 everywhere.
        segment_ids_K: [K] int, which sequence each action belongs to; never falls.
        gamma: discount, 0..1.
        lam: lambda, 0..1.
        bootstrap_values_S: [S] V after each sequence's last token, 0 where the end was the end; None for all 0.

    Returns:
        advantages_K and returns_K, the dtype of `rewards_K`.

    Raises:
        ValueError: shapes differ, or the rewards are not floats.
    """
    values_K = torch.zeros_like(rewards_K) if values_K is None else values_K
    if not rewards_K.shape == values_K.shape == segment_ids_K.shape or rewards_K.ndim != 1:
        shapes = [tuple(x.shape) for x in (rewards_K, values_K, segment_ids_K)]
        raise ValueError(f"rewards, values and segment ids must be one-dimensional and alike, got {shapes}")
    if not rewards_K.is_floating_point():
        raise ValueError(f"rewards must be floats, got {rewards_K.dtype}")
    dtype, rewards_K, values_K = rewards_K.dtype, rewards_K.double(), values_K.double()
    last_K = is_last(segment_ids_K)
    after_K = 0.0 if bootstrap_values_S is None else bootstrap_values_S.double()[segment_ids_K.long()]
    next_values_K = torch.where(last_K, after_K, values_K.roll(-1))
    delta_K = rewards_K + gamma * next_values_K - values_K
    advantages_K = reverse_scan(delta_K, torch.where(last_K, 0.0, gamma * lam).to(delta_K.dtype))
    return advantages_K.to(dtype), (advantages_K + values_K).to(dtype)


def group_advantages(rewards_N: Tensor, valid_N: Tensor, group_index_N: Tensor, *, normalize_std: bool) -> Tensor:
    """Compare each reward with its group's (Shao et al. 2024, arXiv 2402.03300, section 4.1.2).

        A_i = (r_i - mean(r)) / std(r)

    over the valid rewards of the group; `std` has Bessel's correction. Invalid ones get 0 and count nowhere;
    so do groups with fewer than two valid rewards and groups whose rewards are all the same. Without
    `normalize_std` the division is left out (Liu et al. 2025, arXiv 2503.20783).

    Args:
        rewards_N: [N] float; anything, even NaN, where invalid.
        valid_N: [N] bool.
        group_index_N: [N] i64, which prompt each belongs to, 0..P-1.
        normalize_std: divide by the standard deviation.

    Returns:
        [N], the dtype of `rewards_N`.

    Raises:
        ValueError: shapes differ.
    """
    if not rewards_N.shape == valid_N.shape == group_index_N.shape or rewards_N.ndim != 1:
        shapes = [tuple(x.shape) for x in (rewards_N, valid_N, group_index_N)]
        raise ValueError(f"rewards, valid and group index must be one-dimensional and alike, got {shapes}")
    if not rewards_N.numel():
        return rewards_N
    rewards = torch.where(valid_N, rewards_N, 0.0).double()
    num_groups = int(group_index_N.max()) + 1

    def per_group(x_N: Tensor) -> Tensor:
        return x_N.new_zeros(num_groups).index_add(0, group_index_N, x_N)[group_index_N]

    count = per_group(valid_N.double())
    mean = per_group(rewards) / count.clamp(min=1)
    centred = torch.where(valid_N, rewards - mean, 0.0)
    std = (per_group(centred.square()) / (count - 1).clamp(min=1)).sqrt()
    differ = std > FLOAT_NOISE * mean.abs().clamp(min=1)
    advantages = centred / std if normalize_std else centred
    return torch.where(differ & valid_N, advantages, 0.0).to(rewards_N.dtype)


def whiten(x_K: Tensor) -> Tensor:
    """Shift and scale to mean 0 and (population) standard deviation 1; constants become 0.

    Args:
        x_K: [K] float: all action tokens of a step, of all rows and ranks.
            Whitening rows one by one gives another result.
    """
    if not x_K.numel():
        return x_K
    centred = x_K.double() - x_K.double().mean()
    std = centred.square().mean().sqrt()
    return (centred / std if std > FLOAT_NOISE * x_K.abs().max().clamp(min=1) else torch.zeros_like(centred)).to(
        x_K.dtype
    )
