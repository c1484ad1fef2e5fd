"""The clipped surrogate against a table and numeric gradients."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from orz_train.algo.losses import clipped_policy_loss

pytestmark = pytest.mark.unit

# clip_low 0.2 and clip_high 0.3: ratios count between 0.8 and 1.3.
# ratio, advantage, loss = -min(ratio * A, clip(ratio) * A), d loss / d logprob, whether the bound binds
TABLE = [
    # better than expected: pushed up, until the upper bound
    (0.5, 2.0, -1.0, -1.0, False),  # min(1.0, 1.6)
    (0.9, 2.0, -1.8, -1.8, False),
    (1.0, 2.0, -2.0, -2.0, False),
    (1.25, 2.0, -2.5, -2.5, False),  # inside the raised bound, beyond 1.2
    (1.5, 2.0, -2.6, 0.0, True),  # min(3.0, 2.6)
    (9.0, 2.0, -2.6, 0.0, True),
    # worse than expected: pushed down, until the lower bound
    (0.1, -2.0, 1.6, 0.0, True),  # min(-0.2, -1.6)
    (0.75, -2.0, 1.6, 0.0, True),  # inside 1 - 0.3, so the lower bound is clip_low's
    (0.85, -2.0, 1.7, 1.7, False),
    (1.0, -2.0, 2.0, 2.0, False),
    (1.2, -2.0, 2.4, 2.4, False),
    (1.5, -2.0, 3.0, 3.0, False),  # min(-3.0, -2.6): no bound on this side
    (9.0, -2.0, 18.0, 18.0, False),
    # nothing to say
    (0.5, 0.0, 0.0, 0.0, False),
    (1.0, 0.0, 0.0, 0.0, False),
    (1.5, 0.0, 0.0, 0.0, False),
]


def run(logprobs_K: Tensor, old_K: Tensor, advantages_K: Tensor, weights_K: Tensor | None = None, **clips: float):
    bounds = {"clip_low": 0.2, "clip_high": 0.3} | clips
    weights_K = torch.ones_like(logprobs_K) if weights_K is None else weights_K
    return clipped_policy_loss(logprobs_K, old_K, advantages_K, weights_K, **bounds)


@pytest.mark.parametrize(("ratio", "advantage", "loss", "slope", "binds"), TABLE)
def test_loss_slope_and_bound_of_each_case(
    ratio: float, advantage: float, loss: float, slope: float, binds: bool
) -> None:
    """The table, and the slope once more by central differences."""
    old_K = torch.tensor([-1.3], dtype=torch.float64)
    logprobs_K = (old_K + math.log(ratio)).requires_grad_()
    advantages_K = torch.tensor([advantage], dtype=torch.float64)
    total, loss_K, binds_K = run(logprobs_K, old_K, advantages_K)
    total.backward()
    with torch.no_grad():
        above, below = (float(run(logprobs_K + step, old_K, advantages_K)[0]) for step in (1e-6, -1e-6))
    assert logprobs_K.grad is not None
    assert loss == pytest.approx(total.item(), abs=1e-9)
    assert loss == pytest.approx(loss_K.item(), abs=1e-9)
    assert slope == pytest.approx(logprobs_K.grad.item(), abs=1e-9)
    assert slope == pytest.approx((above - below) / 2e-6, abs=1e-4)
    assert binds is bool(binds_K.item())


def test_the_bounds_are_not_swapped() -> None:
    """Clip-higher: clip_high bounds the good tokens from above, clip_low the bad ones from below."""
    ratios_K = torch.tensor([1.25, 0.75]).log()
    advantages_K = torch.tensor([1.0, -1.0])
    zeros_K = torch.zeros(2)
    assert run(ratios_K, zeros_K, advantages_K, clip_low=0.2, clip_high=0.28)[2].tolist() == [False, True]
    assert run(ratios_K, zeros_K, advantages_K, clip_low=0.28, clip_high=0.2)[2].tolist() == [True, False]


def test_on_policy_the_gradient_is_the_policy_gradient() -> None:
    """At ratio 1, d loss / d logprob = -A * weight, to the bit, and nothing binds."""
    logprobs_K = torch.tensor([-0.3, -2.0, -7.7], requires_grad=True)
    advantages_K, weights_K = torch.tensor([1.5, -0.25, 0.0]), torch.tensor([0.5, 0.25, 0.25])
    total, _, binds_K = run(logprobs_K, logprobs_K.detach(), advantages_K, weights_K)
    total.backward()
    assert logprobs_K.grad is not None
    assert torch.equal(-advantages_K * weights_K, logprobs_K.grad)
    assert not binds_K.any()


def test_the_loss_is_the_weighted_sum() -> None:
    """At ratio 1 the losses are (-1, 2, -3): 0.5 * -1 + 0.25 * 2 + 0.25 * -3 = -0.75."""
    zeros_K = torch.zeros(3)
    total, loss_K, _ = run(zeros_K, zeros_K, torch.tensor([1.0, -2.0, 3.0]), torch.tensor([0.5, 0.25, 0.25]))
    assert loss_K.tolist() == [-1.0, 2.0, -3.0]
    assert total.item() == -0.75


def test_no_actions_give_zero_with_a_graph() -> None:
    """A rank whose rows are all masked still runs its backward pass; others wait for it."""
    logprobs_K = torch.zeros(0, requires_grad=True)
    total, loss_K, binds_K = run(logprobs_K, torch.zeros(0), torch.zeros(0))
    total.backward()
    assert total.item() == 0.0
    assert loss_K.shape == binds_K.shape == (0,)
    assert logprobs_K.grad is not None


def test_a_nan_is_not_hidden() -> None:
    """Clamp and minimum pass it on, so a broken model shows in the loss."""
    total, _, _ = run(torch.tensor([float("nan"), 0.0]), torch.zeros(2), torch.ones(2))
    assert math.isnan(total.item())
