"""The clipped value loss against a table, and explained variance by hand."""

from __future__ import annotations

import math

import pytest
import torch

from orz_train.algo.advantages import gae
from orz_train.algo.losses import clipped_value_loss, explained_variance

pytestmark = pytest.mark.unit

# old value 1, value_clip 0.2: values count between 0.8 and 1.2.
# value, return, loss = max((v - R)^2, (clip(v) - R)^2) / 2, d loss / d v, whether the bound binds
TABLE = [
    (1.0, 2.0, 0.5, -1.0, False),
    (1.1, 2.0, 0.405, -0.9, False),  # 0.81 / 2
    (1.5, 2.0, 0.32, 0.0, True),  # max(0.25, 0.64) / 2: far enough towards the return
    (2.5, 2.0, 0.32, 0.0, True),  # beyond it: max(0.25, 0.64) / 2
    (3.0, 2.0, 0.5, 1.0, False),  # far beyond it: max(1, 0.64) / 2
    (0.5, 2.0, 1.125, -1.5, False),  # away from it: max(2.25, 1.44) / 2
    (0.5, 0.0, 0.32, 0.0, True),  # max(0.25, 0.64) / 2
    (1.5, 0.0, 1.125, 1.5, False),  # max(2.25, 1.44) / 2
]


@pytest.mark.parametrize(("value", "target", "loss", "slope", "binds"), TABLE)
def test_loss_slope_and_bound_of_each_case(value: float, target: float, loss: float, slope: float, binds: bool) -> None:
    """The table, and the slope once more by central differences."""

    def run(at: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        one = torch.ones(1, dtype=torch.float64)
        return clipped_value_loss(at, one, torch.tensor([target]).double(), one, value_clip=0.2)

    values_K = torch.tensor([value], dtype=torch.float64, requires_grad=True)
    total, loss_K, binds_K = run(values_K)
    total.backward()
    with torch.no_grad():
        above, below = (float(run(values_K + step)[0]) for step in (1e-6, -1e-6))
    assert values_K.grad is not None
    assert loss == pytest.approx(total.item(), abs=1e-12)
    assert loss == pytest.approx(loss_K.item(), abs=1e-12)
    assert slope == pytest.approx(values_K.grad.item(), abs=1e-12)
    assert slope == pytest.approx((above - below) / 2e-6, abs=1e-4)
    assert binds is bool(binds_K.item())


@pytest.mark.parametrize(("value", "target"), [case[:2] for case in TABLE])
def test_without_a_clip_it_is_half_the_squared_error(value: float, target: float) -> None:
    """Loss (v - R)^2 / 2, slope v - R, and nothing ever binds."""
    values_K = torch.tensor([value], requires_grad=True)
    total, _, binds_K = clipped_value_loss(
        values_K, torch.ones(1), torch.tensor([target]), torch.ones(1), value_clip=None
    )
    total.backward()
    assert values_K.grad is not None
    assert total.item() == pytest.approx((value - target) ** 2 / 2)
    assert values_K.grad.item() == pytest.approx(value - target)
    assert not binds_K.any()


def test_the_loss_is_the_weighted_sum() -> None:
    """Errors (1, 2): 0.75 * 1/2 + 0.25 * 4/2 = 0.875."""
    values_K = torch.tensor([1.0, 2.0])
    total, loss_K, _ = clipped_value_loss(
        values_K, values_K, torch.zeros(2), torch.tensor([0.75, 0.25]), value_clip=0.2
    )
    assert loss_K.tolist() == [0.5, 2.0]
    assert total.item() == 0.875


def test_rounding_is_not_clipping() -> None:
    """Values strictly inside the bounds never count as clipped, and keep the plain loss to the bit."""
    generator = torch.Generator().manual_seed(0)
    old_K, values_K = 0.1 * torch.randn(2, 20_000, generator=generator)
    inside_K = (values_K - old_K).abs() < 0.19
    old_K, values_K = old_K[inside_K], values_K[inside_K]
    returns_K = torch.randint(0, 2, old_K.shape, generator=generator).float()
    weights_K = torch.ones_like(old_K)
    _, loss_K, binds_K = clipped_value_loss(values_K, old_K, returns_K, weights_K, value_clip=0.2)
    _, plain_K, _ = clipped_value_loss(values_K, old_K, returns_K, weights_K, value_clip=None)
    assert binds_K.sum().item() == 0
    assert torch.equal(plain_K, loss_K)


def test_no_actions_give_zero_with_a_graph() -> None:
    values_K, empty_K = torch.zeros(0, requires_grad=True), torch.zeros(0)
    total, _, _ = clipped_value_loss(values_K, empty_K, empty_K, empty_K, value_clip=0.2)
    total.backward()
    assert total.item() == 0.0
    assert values_K.grad is not None


def test_a_nan_is_not_hidden() -> None:
    values_K = torch.tensor([float("nan"), 1.0])
    total, _, _ = clipped_value_loss(values_K, torch.ones(2), torch.ones(2), torch.ones(2), value_clip=0.2)
    assert math.isnan(total.item())


# --- explained variance ---------------------------------------------------------------------------


def test_explained_variance_by_hand() -> None:
    """R = (0, 1, 2, 3): variance 5/4. R - V = (0, 0, 0, 1): variance 1/4 - 1/16 = 3/16. 1 - 3/20 = 0.85."""
    actual = explained_variance(torch.tensor([0.0, 1.0, 2.0, 3.0]), torch.tensor([0.0, 1.0, 2.0, 2.0]))
    assert actual == pytest.approx(0.85, abs=1e-12)


def test_a_perfect_critic_explains_all_and_a_constant_one_nothing() -> None:
    returns_K = torch.tensor([0.0, 1.0, 1.0, 0.0])
    assert explained_variance(returns_K, returns_K) == 1.0
    assert explained_variance(returns_K, returns_K + 7) == 1.0
    assert explained_variance(returns_K, torch.full((4,), 0.3)) == pytest.approx(0.0, abs=1e-6)


def test_a_critic_worse_than_a_constant_is_below_zero() -> None:
    """V = 1 - R: R - V = (-1, 1), variance 1 against 1/4: 1 - 4 = -3."""
    assert explained_variance(torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0])) == pytest.approx(-3.0)


def test_the_mean_of_parts_is_another_number() -> None:
    """Halves of constant returns explain nothing at all; together they vary, and all of it is explained."""
    returns_K = torch.tensor([0.0, 0.0, 1.0, 1.0])
    assert explained_variance(returns_K, returns_K) == 1.0
    assert math.isnan(explained_variance(returns_K[:2], returns_K[:2]))


@pytest.mark.parametrize("returns", [[], [1.0], [0.7] * 5, [1.0, 1.0 + 1e-7, 1.0]])
def test_returns_that_do_not_vary_give_nan(returns: list[float]) -> None:
    """Also up to float noise; 1 - Var / 1e-14 would draw a peak of -1e13 into the log."""
    returns_K = torch.tensor(returns)
    assert math.isnan(explained_variance(returns_K, torch.arange(float(len(returns)))))


@pytest.mark.parametrize("reward", [0.0, 0.7, 1.0])
def test_a_step_of_equal_rewards_has_nothing_to_explain(reward: float) -> None:
    """At the end of a run every rollout is right; gamma = lambda = 1 makes every return its reward."""
    values_K = torch.rand(5000, generator=torch.Generator().manual_seed(0))
    segments_K = torch.arange(5000) // 50
    rewards_K = torch.where(torch.arange(5000) % 50 == 49, reward, 0.0)
    _, returns_K = gae(rewards_K, values_K, segments_K, gamma=1.0, lam=1.0)
    assert math.isnan(explained_variance(returns_K, values_K))
