"""Whether each batch of rollouts gets a single update: then the policy that learns is the one that sampled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from orz_monitor.frameworks import framework_of, setting_of
from orz_monitor.run import Run

_EQUAL: Final[Mapping[str, tuple[str, str]]] = {
    "verl": ("actor_rollout_ref.actor.ppo_mini_batch_size", "data.train_batch_size"),
    "trl": ("steps_per_generation", "gradient_accumulation_steps"),
}
"""Trainer to the two settings that are equal where a pass over a batch is one update."""


def has_one_update(run: Run) -> bool:
    """Tell whether a run's settings say that each batch gets one update; False where they do not tell.

    Then probability ratios are 1, nothing is clipped, and KL between the old and the new policy is 0.
    """
    return setting_of(run, "policy.epochs_per_step") == "1" and _is_one_pass_one_update(run)


def _is_one_pass_one_update(run: Run) -> bool:
    """Tell whether the settings say that one pass over a batch is one update."""
    names = _EQUAL.get(framework_of(run))
    if names is None:
        return setting_of(run, "policy.updates_per_step") == "1"
    parts, whole = (run.settings.get(name, "") for name in names)
    return bool(parts) and parts == whole
