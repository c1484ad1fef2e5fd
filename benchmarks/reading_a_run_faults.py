"""Faults of the pictures of docs/explanation/reading-a-run.md, beside those whose delays are measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from orz_monitor.simulated_faults import Fault
from orz_monitor.stats import Array

Inject = Callable[[dict[str, Array], int], None]


def _times(name: str, factor: float, *others: str) -> Inject:
    """Multiply metrics from a step on."""

    def inject(metrics: dict[str, Array], at: int) -> None:
        for each in (name, *others):
            metrics[each][at:] *= factor

    return inject


def _becomes(name: str, level: float) -> Inject:
    """Let a metric go to a level within twenty steps, with its own noise there."""

    def inject(metrics: dict[str, Array], at: int) -> None:
        values = metrics[name]
        noise = values[at:] / np.median(values[at:])
        share = np.clip(np.arange(1, len(values) - at + 1) / 20, 0, 1)
        values[at:] = (1 - share) * values[at:] + share * level * np.clip(noise, 0.7, 1.4)

    return inject


def _leaping_loss(metrics: dict[str, Array], at: int) -> None:
    """Let the loss leap in every other step."""
    metrics["policy/loss"][at : at + 12 : 2] += 3.0


def _spikes(metrics: dict[str, Array], at: int) -> None:
    """Let the KL leap up and go back, again and again."""
    metrics["policy/kl_ref"][at - 40 :: 7] = 30 * np.median(metrics["policy/kl_ref"])


def _ended_schedule(metrics: dict[str, Array], at: int) -> None:
    """Let the learning rate go to 0 long before the end."""
    metrics["policy/lr"][at:] = 0.0


def _no_gradient(metrics: dict[str, Array], at: int) -> None:
    """Cut the gradient."""
    metrics["policy/grad_norm"][at:] = 0.0


def _bad_critic(metrics: dict[str, Array], at: int) -> None:
    """Let the critic predict worse than a constant would."""
    metrics["critic/explained_var"][at - 30 :] -= 1.2


def _short_answers(metrics: dict[str, Array], at: int) -> None:
    """Let responses collapse, and the reward with them."""
    _becomes("rollout/response_tokens_mean", 0.2 * float(metrics["rollout/response_tokens_mean"][at]))(metrics, at)
    _becomes("reward/mean", 0.4 * float(metrics["reward/mean"][at]))(metrics, at)


def _nothing(metrics: dict[str, Array], at: int) -> None:
    """Change nothing: the fault is one of the clock."""


MORE: Final = (
    Fault(
        name="clipping",
        inject=_becomes("policy/clip_frac", 0.4),
        codes=frozenset({"clip_frac"}),
        ramp="policy/clip_frac",
    ),
    Fault(
        name="large updates", inject=_becomes("policy/kl_old", 0.05), codes=frozenset({"kl_old"}), ramp="policy/kl_old"
    ),
    Fault(name="loss leaps", inject=_leaping_loss, codes=frozenset({"loss_spike"}), ramp="policy/loss"),
    Fault(name="KL spikes", inject=_spikes, codes=frozenset({"kl_spike"}), ramp="policy/kl_ref"),
    Fault(name="value loss", inject=_times("critic/loss", 20), codes=frozenset({"value_loss"}), ramp="critic/loss"),
    Fault(
        name="critic of no use",
        inject=_bad_critic,
        codes=frozenset({"explained_variance"}),
        ramp="critic/explained_var",
    ),
    Fault(name="learning rate ended", inject=_ended_schedule, codes=frozenset({"learning_rate"}), ramp="policy/lr"),
    Fault(name="no gradient", inject=_no_gradient, codes=frozenset({"grad_zero"}), ramp="policy/grad_norm"),
    Fault(
        name="truncation",
        inject=_becomes("rollout/truncated_frac", 0.6),
        codes=frozenset({"truncation"}),
        ramp="rollout/truncated_frac",
    ),
    Fault(
        name="repetition",
        inject=_becomes("rollout/repetition", 0.4),
        codes=frozenset({"repetition"}),
        ramp="rollout/repetition",
    ),
    Fault(
        name="short answers",
        inject=_short_answers,
        codes=frozenset({"length_collapse"}),
        ramp="rollout/response_tokens_mean",
    ),
    Fault(
        name="slow steps",
        inject=_times("seconds/total", 2.5, "seconds/generate"),
        codes=frozenset({"slow_steps"}),
        ramp="seconds/total",
    ),
    Fault(name="restarts", inject=_nothing, codes=frozenset({"restarts"}), ramp="reward/mean"),
    Fault(name="a stall", inject=_nothing, codes=frozenset({"stall"}), ramp="reward/mean"),
)
"""Faults, each with the metric that shows it as `ramp`."""
RESTARTS: Final = {"restarts": (100, 108, 116, 124, 132)}
"""Name of a fault to the first steps after restarts."""
STALLED: Final = "a stall"
