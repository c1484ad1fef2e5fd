"""The learning rate schedule and the guarded optimizer step."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from orz_train.backends.optimizer import GuardedAdamW, learning_rate
from orz_train.config.training import Optimizer

pytestmark = pytest.mark.unit


def test_warmup_rises_from_its_first_share_and_then_stays() -> None:
    """Four warm-up updates give a quarter, a half, three quarters and all of the rate; the first is never 0."""
    config = Optimizer(lr=8.0, warmup_steps=4)
    assert [learning_rate(config, update, 100) for update in range(6)] == [2.0, 4.0, 6.0, 8.0, 8.0, 8.0]


def test_linear_schedule_falls_to_nothing_after_the_last_update() -> None:
    """Two warm-up updates, then 4 of 4 falling: 8, 6, 4, 2, and 0 beyond."""
    config = Optimizer(lr=8.0, warmup_steps=2, schedule="linear")
    assert [learning_rate(config, update, 6) for update in range(8)] == [4.0, 8.0, 8.0, 6.0, 4.0, 2.0, 0.0, 0.0]


def test_cosine_schedule_is_half_way_down_in_the_middle() -> None:
    """The cosine runs from 1 to -1: the full rate, (1 + cos(pi/4)) / 2 of it, half, and 0 at the end."""
    config = Optimizer(lr=1.0, schedule="cosine")
    expected = [1.0, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2, 0.0]
    assert [learning_rate(config, update, 4) for update in range(5)] == pytest.approx(expected)


def linear(weights: list[float]) -> nn.Linear:
    """Make a bias-free linear layer with these weights."""
    layer = nn.Linear(len(weights), 1, bias=False)
    layer.weight.data = torch.tensor([weights])
    return layer


def test_first_step_moves_each_weight_by_the_rate_against_its_gradient() -> None:
    """Adam's first step has |m| / sqrt(v) = 1, so w = w - lr * sign(g), whatever the clipping."""
    layer = linear([1.0, 1.0])
    layer.weight.grad = torch.tensor([[3.0, -4.0]])
    outcome = GuardedAdamW(layer, Optimizer(lr=0.1, max_grad_norm=1.0), total_updates=1).step()
    assert (5.0, 0.1, True) == (outcome.grad_norm, outcome.lr, outcome.applied)
    assert layer.weight.tolist()[0] == pytest.approx([0.9, 1.1], abs=1e-6)


def test_weight_decay_spares_vectors() -> None:
    """Matrices shrink by lr * decay, norms and biases don't."""
    layer = nn.Linear(1, 1)
    nn.init.ones_(layer.weight)
    nn.init.ones_(layer.bias)
    for parameter in layer.parameters():
        parameter.grad = torch.zeros_like(parameter)
    GuardedAdamW(layer, Optimizer(lr=0.1, weight_decay=0.5), total_updates=1).step()
    assert (pytest.approx(0.95), 1.0) == (float(layer.weight.detach()), float(layer.bias.detach()))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_changes_nothing(bad: float) -> None:
    """The step is skipped: weights, moments and the schedule stay, the gradient is gone."""
    layer = linear([1.0, 2.0])
    optimizer = GuardedAdamW(layer, Optimizer(lr=0.1, warmup_steps=10), total_updates=10)
    layer.weight.grad = torch.tensor([[1.0, bad]])
    outcome = optimizer.step()
    assert not outcome.applied
    assert not math.isfinite(outcome.grad_norm)
    assert [[1.0, 2.0]] == layer.weight.tolist()
    assert layer.weight.grad is None
    assert 0 == optimizer.updates
    assert {} == optimizer.adamw.state_dict()["state"]


def test_saved_state_continues_bit_for_bit(tmp_path: Path) -> None:
    """Two steps, save, load, two steps: the same weights as four steps in one go."""

    def steps(layer: nn.Linear, optimizer: GuardedAdamW, gradients: list[float]) -> None:
        for gradient in gradients:
            layer.weight.grad = torch.full_like(layer.weight, gradient)
            optimizer.step()

    config = Optimizer(lr=0.1, warmup_steps=3, schedule="linear")
    whole = linear([1.0, 2.0])
    steps(whole, GuardedAdamW(whole, config, total_updates=4), [0.3, -0.1, 0.2, 0.7])
    first = linear([1.0, 2.0])
    optimizer = GuardedAdamW(first, config, total_updates=4)
    steps(first, optimizer, [0.3, -0.1])
    optimizer.save(tmp_path / "state.pt")
    second = linear(first.weight.tolist()[0])
    resumed = GuardedAdamW(second, config, total_updates=4)
    resumed.load(tmp_path / "state.pt")
    steps(second, resumed, [0.2, 0.7])
    assert whole.weight.tolist() == second.weight.tolist()
