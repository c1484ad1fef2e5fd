"""The losses of PPO, their gradients and their metrics on rows small enough to work out by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest

from orz_train.algorithm import PPO
from orz_train.config.schema import Config
from orz_train.types import Rollout, TrainRow

pytestmark = pytest.mark.unit

MakeConfig = Callable[..., Config]
MakeRollout = Callable[..., Rollout]
TrainRows = Callable[..., list[TrainRow]]
RunLosses = Callable[..., tuple[float, list[list[float]], dict[str, float]]]


def flat(numbers: Sequence[Sequence[float]]) -> list[float]:
    return [x for row in numbers for x in row]


def approx(expected: Sequence[float]) -> object:
    return pytest.approx(expected, abs=1e-6)


def test_on_policy_nothing_is_clipped_and_old_and_new_agree(
    make_config: MakeConfig, make_rollout: MakeRollout, train_rows: TrainRows, run_losses: RunLosses
) -> None:
    """Loss -mean(A) = -(1 + 1 - 2) / 3 = 0, gradient -A / 3, ratio 1, KL 0."""
    rollouts = [make_rollout(1, 2), make_rollout(1, 1, index=1)]
    old = [[-1.0, -2.0], [-3.0]]
    rows = train_rows(rollouts, [[1.0, 1.0], [-2.0]], old=old)
    loss, gradients, metrics = run_losses(PPO(make_config()), rows, old)
    assert loss == pytest.approx(0.0, abs=1e-7)
    assert flat(gradients) == approx([-1 / 3, -1 / 3, 2 / 3])
    assert metrics == pytest.approx(
        {
            "policy/loss": 0.0,
            "policy/entropy": 4.0,  # the stand-in entropy -2 * logprob, averaged over three actions
            "policy/clip_frac": 0.0,
            "policy/kl_old": 0.0,
            "policy/ratio_max": 1.0,
        },
        abs=1e-7,
    )


def test_off_policy_metrics_by_hand(
    make_config: MakeConfig, make_rollout: MakeRollout, train_rows: TrainRows, run_losses: RunLosses
) -> None:
    """Ratios (4, 1/2), A = (1, 1), clip 0.2: losses (-1.2, -0.5), one of two clipped.

    KL(old || new) by k3 with d = old - new = (-log 4, log 2): (4 - 1 - log 4) and (1/2 - 1 + log 2), mean
    (2.5 - log 2) / 2; the other way round it would be (1/4 + 2 - 2 + log 2) / 2.
    """
    old = [[-2.0, -2.0]]
    new = [[-2.0 + math.log(4), -2.0 - math.log(2)]]
    rows = train_rows([make_rollout(1, 2)], [[1.0, 1.0]], old=old)
    loss, gradients, metrics = run_losses(PPO(make_config()), rows, new)
    assert loss == pytest.approx(-0.85, abs=1e-6)
    assert flat(gradients) == approx([0.0, -0.25])
    assert metrics["policy/loss"] == pytest.approx(-0.85, abs=1e-6)
    assert metrics["policy/clip_frac"] == 0.5
    assert metrics["policy/kl_old"] == pytest.approx((2.5 - math.log(2)) / 2, abs=1e-6)
    assert metrics["policy/ratio_max"] == pytest.approx(4.0, abs=1e-5)


def test_the_entropy_bonus_lowers_the_loss(
    make_config: MakeConfig, make_rollout: MakeRollout, train_rows: TrainRows, run_losses: RunLosses
) -> None:
    """Entropies (2, 4), mean 3, coefficient 0.1: loss -0.3 at advantage 0. It counts once, with the same weights."""
    old = [[-1.0, -2.0]]
    rows = train_rows([make_rollout(1, 2)], [[0.0, 0.0]], old=old)
    loss, gradients, _ = run_losses(PPO(make_config(loss={"entropy_coef": 0.1})), rows, old)
    assert loss == pytest.approx(-0.3, abs=1e-6)
    assert flat(gradients) == approx([0.1, 0.1])  # -0.1 * 1/2 * d(-2 logprob)


@pytest.mark.parametrize(
    ("estimator", "value", "slope"), [("k1", 1.0, 1.0), ("k2", 0.5, 1.0), ("k3", math.exp(-1), 1 - math.exp(-1))]
)
def test_kl_in_the_loss_has_a_gradient_where_the_advantage_has_none(
    estimator: str,
    value: float,
    slope: float,
    make_config: MakeConfig,
    make_rollout: MakeRollout,
    train_rows: TrainRows,
    run_losses: RunLosses,
) -> None:
    """D = 1 at both actions, coefficient 0.5, advantage 0: the loss is half the estimate."""
    old = [[-1.0, -2.0]]
    rows = train_rows([make_rollout(1, 2)], [[0.0, 0.0]], old=old, ref=[[-2.0, -3.0]])
    config = make_config(kl={"loss_coef": 0.5, "estimator": estimator})
    loss, gradients, metrics = run_losses(PPO(config), rows, old)
    assert loss == pytest.approx(0.5 * value, abs=1e-6)
    assert flat(gradients) == approx([0.25 * slope, 0.25 * slope])
    assert metrics["policy/kl_loss"] == pytest.approx(value, abs=1e-6)


def test_a_kl_loss_without_a_reference_is_an_error(
    make_config: MakeConfig, make_rollout: MakeRollout, train_rows: TrainRows, run_losses: RunLosses
) -> None:
    rows = train_rows([make_rollout(1, 1)], [[1.0]], old=[[-1.0]])
    with pytest.raises(ValueError, match=r"estimates\.ref_logprobs_T is missing"):
        run_losses(PPO(make_config(kl={"loss_coef": 0.5})), rows, [[-1.0]])


def test_value_loss_by_hand(
    make_config: MakeConfig, make_rollout: MakeRollout, train_rows: TrainRows, run_losses: RunLosses
) -> None:
    """Old values (1, 1), returns (2, 2), new (1.1, 1.5), clip 0.2: losses 0.405 and 0.32, one of two clipped."""
    rows = train_rows([make_rollout(1, 2)], [[2.0, 2.0]], old=[[0.0, 0.0]], values=[[1.0, 1.0]])
    loss, gradients, metrics = run_losses(PPO(make_config()), rows, [[1.1, 1.5]], of="value")
    assert loss == pytest.approx((0.405 + 0.32) / 2, abs=1e-6)
    assert flat(gradients) == approx([-0.45, 0.0])
    assert metrics == pytest.approx({"critic/loss": 0.3625, "critic/clip_frac": 0.5}, abs=1e-6)


def test_a_value_loss_without_old_values_is_an_error(
    make_config: MakeConfig, make_rollout: MakeRollout, train_rows: TrainRows, run_losses: RunLosses
) -> None:
    rows = train_rows([make_rollout(1, 1)], [[1.0]], old=[[-1.0]])
    with pytest.raises(ValueError, match=r"estimates\.values_T is missing"):
        run_losses(PPO(make_config()), rows, [[0.5]], of="value")
