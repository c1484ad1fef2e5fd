"""AdamW with a schedule and a guard: the optimizer step that policy and critic share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from orz_ckpt.manifest import FileEntry
from orz_train.backends.state_writing import write_state
from orz_train.config.training import Optimizer as OptimizerConfig


def learning_rate(config: OptimizerConfig, update: int, total_updates: int) -> float:
    """Return the learning rate of an update.

    Rises linearly from lr / warmup_steps at update 0 to lr, then stays, or falls to 0 after the last update.

    Args:
        config: rate, warm-up and schedule.
        update: optimizer steps taken before this one.
        total_updates: optimizer steps of the whole run.
    """
    if update < config.warmup_steps:
        return config.lr * (update + 1) / config.warmup_steps
    progress = min((update - config.warmup_steps) / max(total_updates - config.warmup_steps, 1), 1.0)
    match config.schedule:
        case "constant":
            return config.lr
        case "linear":
            return config.lr * (1 - progress)
        case "cosine":
            return config.lr * (1 + math.cos(math.pi * progress)) / 2


def decay_groups(model: nn.Module, config: OptimizerConfig) -> list[dict[str, Any]]:
    """Divide a model's trainable parameters for AdamW: matrices decay, vectors (biases, norms) don't."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


@dataclass(frozen=True, kw_only=True, slots=True)
class StepOutcome:
    """What an optimizer step did."""

    grad_norm: float
    """Before clipping."""
    lr: float
    applied: bool
    """False where the gradient wasn't finite: the weights stayed, the gradient is gone."""


class GuardedAdamW:
    """AdamW over a model's trainable parameters; skips a step whose gradient isn't finite.

    Args:
        model: whose parameters.
        config: rates and limits.
        total_updates: optimizer steps of the whole run, for the schedule.
    """

    def __init__(self, model: nn.Module, config: OptimizerConfig, *, total_updates: int) -> None:
        self.config = config
        self.total_updates = total_updates
        self.updates = 0
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.adamw = torch.optim.AdamW(decay_groups(model, config), lr=config.lr, betas=config.betas, eps=config.eps)

    def step(self) -> StepOutcome:
        """Clip the gradients, step, and clear them."""
        lr = learning_rate(self.config, self.updates, self.total_updates)
        grad_norm = float(nn.utils.clip_grad_norm_(self.parameters, self.config.max_grad_norm))
        applied = math.isfinite(grad_norm)
        if applied:
            for group in self.adamw.param_groups:
                group["lr"] = lr
            self.adamw.step()
            self.updates += 1
        self.adamw.zero_grad(set_to_none=True)
        return StepOutcome(grad_norm=grad_norm, lr=lr, applied=applied)

    def save(self, path: Path) -> dict[str, FileEntry]:
        """Write moments and count; return the file, by path relative to the step folder."""
        return write_state(self.state(), path)

    def state(self) -> dict[str, Any]:
        """Return moments and count, the tensors themselves."""
        return {"adamw": self.adamw.state_dict(), "updates": self.updates}

    def load(self, path: Path) -> None:
        """Read moments and count back; nothing but tensors and plain values is unpickled."""
        state = torch.load(path, weights_only=True)
        self.adamw.load_state_dict(state["adamw"])
        self.updates = state["updates"]
