"""Sequences inside a row: gathering actions, and linear recursions that stop at borders."""

from __future__ import annotations

import torch
from torch import Tensor


def action_index(action_mask_T: Tensor) -> Tensor:
    """Return [K] i64, the positions of the action tokens.

    Raises:
        ValueError: the row's first token is an action; nothing comes before it that could have chosen it.
    """
    if action_mask_T.numel() and bool(action_mask_T[0]):
        raise ValueError("action_mask_T[0] is True, but a row's first token has nothing before it to predict it")
    return action_mask_T.nonzero().squeeze(-1)


def scatter_actions(values_K: Tensor, action_mask_T: Tensor) -> Tensor:
    """Return [T] with the K values at the action tokens and 0 elsewhere; differentiable.

    Raises:
        ValueError: K is not the number of action tokens.
    """
    if values_K.shape != (int(action_mask_T.sum()),):
        raise ValueError(f"got values {tuple(values_K.shape)} for {int(action_mask_T.sum())} action tokens")
    return torch.zeros(action_mask_T.shape, dtype=values_K.dtype, device=values_K.device).masked_scatter(
        action_mask_T, values_K
    )


def is_last(segment_ids_K: Tensor) -> Tensor:
    """Return [K] bool, True at the last element of each segment."""
    last_K = torch.ones_like(segment_ids_K, dtype=torch.bool)
    last_K[:-1] = segment_ids_K[1:] != segment_ids_K[:-1]
    return last_K


def reverse_scan(x_K: Tensor, decay_K: Tensor) -> Tensor:
    r"""Solve `y_k = x_k + decay_k * y_{k+1}` with `y_K = 0`, for all k at once.

    A decay of 0 at the last element of a segment keeps segments apart. The recursion is associative, so
    ceil(log2 K) passes of doubling suffice (Blelloch 1990, "Prefix Sums and Their Applications",
    https://www.cs.cmu.edu/~guyb/papers/Ble93.pdf, section 1.4).

    Args:
        x_K: [K] float.
        decay_K: [K] float, the same dtype.

    Returns:
        [K], the dtype of `x_K`.

    Raises:
        ValueError: the two differ in shape or dtype, or are not one-dimensional.
    """
    if x_K.ndim != 1 or x_K.shape != decay_K.shape or x_K.dtype != decay_K.dtype:
        raise ValueError(
            f"x_K and decay_K must be one-dimensional and alike, got {tuple(x_K.shape)} {x_K.dtype}"
            f" and {tuple(decay_K.shape)} {decay_K.dtype}"
        )
    sum_K, decay_K, shift = x_K.clone(), decay_K.clone(), 1
    while shift < len(sum_K):
        sum_K[:-shift] = sum_K[:-shift] + decay_K[:-shift] * sum_K[shift:]
        decay_K[:-shift] = decay_K[:-shift] * decay_K[shift:]
        shift *= 2
    return sum_K
