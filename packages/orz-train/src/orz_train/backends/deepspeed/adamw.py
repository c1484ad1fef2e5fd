"""The optimizer that DeepSpeed drives."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from orz_train.backends.optimizer import decay_groups
from orz_train.config.training import Optimizer


class ReplicatedAdamW(torch.optim.AdamW):
    """AdamW for whole gradients that are the same on every rank; skips a step whose gradient isn't finite.

    ZeRO's optimizers do so by themselves. DeepSpeed reads the two attributes after each step.
    """

    max_grad_norm = math.inf
    overflow = False
    _global_grad_norm = 0.0

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]  # DeepSpeed passes none
        """Clip the gradient and step, or leave everything as it is."""
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        self._global_grad_norm = float(nn.utils.clip_grad_norm_(parameters, self.max_grad_norm))
        self.overflow = not math.isfinite(self._global_grad_norm)
        if not self.overflow:
            super().step(closure)


def make_adamw(model: nn.Module, config: Optimizer, *, guarded: bool, fused: bool) -> torch.optim.AdamW:
    """Make AdamW over a model's trainable parameters, as the local backend does.

    Args:
        model: before DeepSpeed shards it.
        config: rates and limits.
        guarded: clip and skip in the optimizer itself.
        fused: take one kernel for all parameters.
    """
    options: dict[str, Any] = {"betas": config.betas, "eps": config.eps, "fused": fused}
    # a rate of 0 until the first step sets it: DeepSpeed takes a step of its own to allocate the moments in bfloat16
    groups = decay_groups(model, config)
    if not guarded:
        return torch.optim.AdamW(groups, lr=0.0, **options)
    adamw = ReplicatedAdamW(groups, lr=0.0, **options)
    adamw.max_grad_norm = config.max_grad_norm
    return adamw
