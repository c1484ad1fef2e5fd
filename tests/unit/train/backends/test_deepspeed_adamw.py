"""The optimizer that guards itself where DeepSpeed has none that does."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from orz_train.backends.deepspeed.adamw import ReplicatedAdamW, make_adamw
from orz_train.backends.optimizer import GuardedAdamW
from orz_train.config.training import Optimizer

pytestmark = pytest.mark.unit

CONFIG = Optimizer(lr=0.1, weight_decay=0.5, max_grad_norm=1.0)


def layer() -> nn.Linear:
    """Make a layer whose gradient has norm 5."""
    made = nn.Linear(2, 1)
    made.weight.data = torch.tensor([[1.0, -2.0]])
    made.bias.data = torch.tensor([0.5])
    made.weight.grad = torch.tensor([[3.0, 0.0]])
    made.bias.grad = torch.tensor([-4.0])
    return made


def guarded(model: nn.Module) -> ReplicatedAdamW:
    """Make the optimizer under test, at the rate of the configuration."""
    adamw = make_adamw(model, CONFIG, guarded=True, fused=False)
    for group in adamw.param_groups:
        group["lr"] = CONFIG.lr
    assert isinstance(adamw, ReplicatedAdamW)
    return adamw


def test_step_is_the_local_backends_bit_for_bit() -> None:
    """Clipping, decay of matrices alone and AdamW itself agree; the norm is reported before clipping."""
    here, local = layer(), layer()
    adamw = guarded(here)
    adamw.step()
    outcome = GuardedAdamW(local, CONFIG, total_updates=1).step()
    assert (outcome.grad_norm, False) == (adamw._global_grad_norm, adamw.overflow)
    assert torch.equal(local.weight, here.weight)
    assert torch.equal(local.bias, here.bias)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_step_that_is_not_finite_leaves_everything(value: float) -> None:
    """No weight moves and no moment exists; DeepSpeed is told, and the next step is a first one."""
    model = layer()
    adamw = guarded(model)
    assert model.bias.grad is not None
    model.bias.grad[0] = value
    adamw.step()
    assert adamw.overflow
    assert [[1.0, -2.0]] == model.weight.tolist()
    assert {} == dict(adamw.state)
    model.bias.grad[0] = -4.0
    model.weight.grad = torch.tensor([[3.0, 0.0]])
    adamw.step()
    assert not adamw.overflow
    assert {1.0} == {float(state["step"]) for state in adamw.state.values()}


def test_step_of_deepspeeds_own_moves_nothing() -> None:
    """Before the first step the rate is 0, so allocating moments by a step leaves decayed weights alone."""
    model = layer()
    make_adamw(model, CONFIG, guarded=False, fused=False).step()
    assert [[1.0, -2.0]] == model.weight.tolist()
