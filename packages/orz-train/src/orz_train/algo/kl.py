"""Monte-Carlo estimators of KL(policy || reference) per token (Schulman 2020, http://joschu.net/blog/kl-approx.html)."""

from __future__ import annotations

from typing import Literal, assert_never

import torch
from torch import Tensor

Estimator = Literal["k1", "k2", "k3"]


def kl_estimate(logprobs: Tensor, ref_logprobs: Tensor, estimator: Estimator) -> Tensor:
    """Estimate KL(policy || reference) from tokens that the policy sampled.

    With `d = log policy - log reference`:

    - `k1 = d`: unbiased, of either sign; as a loss its gradient has mean zero.
    - `k2 = d^2 / 2`: biased, never negative; as a loss it has the gradient of the KL, on policy.
    - `k3 = exp(-d) - 1 + d`: unbiased, never negative, heavy-tailed; as a loss its gradient is that of the
      forward KL(reference || policy), biased for the reverse one (Tang & Munos 2025, arXiv 2506.09477).

    Args:
        logprobs: any shape, log-probs under the policy.
        ref_logprobs: the same shape, under the reference.
        estimator: which.

    Returns:
        The same shape, nats.
    """
    d = logprobs - ref_logprobs
    match estimator:
        case "k1":
            return d
        case "k2":
            return d.square() / 2
        case "k3":
            return torch.expm1(-d) + d
    assert_never(estimator)
