"""How long a run is."""

from __future__ import annotations

from orz_train.config.schema import Config
from orz_train.config.training import Critic


def steps_per_episode(config: Config, num_prompts: int) -> int:
    """Return the steps in which every training prompt comes up once; the last one is filled from the next episode.

    Raises:
        ValueError: there are no prompts.
    """
    if num_prompts < 1:
        raise ValueError(f"an episode needs a prompt, got {num_prompts}")
    return -(-num_prompts // config.prompts_per_step)


def num_steps(config: Config, num_prompts: int) -> int:
    """Return the training steps of a run: `steps`, or `episodes` times those of an episode, as ORZ counts.

    Args:
        config: with one of `steps` and `episodes`.
        num_prompts: training prompts that are kept; not read where `steps` is given.

    Raises:
        ValueError: neither is given, or there are no prompts.
    """
    if config.steps is not None:
        return config.steps
    if config.episodes is None:
        raise ValueError("neither steps nor episodes is given")
    return config.episodes * steps_per_episode(config, num_prompts)


def policy_updates(config: Config, num_steps: int) -> int:
    """Return the optimizer steps of the policy in a run of `num_steps`."""
    settings = config.policy
    return max(num_steps - settings.freeze_steps, 0) * settings.updates_per_step * settings.epochs_per_step


def critic_updates(settings: Critic, num_steps: int) -> int:
    """Return the optimizer steps of a critic in a run of `num_steps`."""
    return num_steps * settings.updates_per_step * settings.epochs_per_step
