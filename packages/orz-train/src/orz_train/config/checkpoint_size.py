"""How many bytes a checkpoint has, told from the configuration alone."""

from __future__ import annotations

from dataclasses import dataclass

from orz_train.config.model_shapes import ModelShape, find_shape
from orz_train.config.schema import Config

DTYPE_BYTES = {"float32": 4, "bfloat16": 2}


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckpointSize:
    """Bytes of one checkpoint."""

    policy: int
    critic: int
    state: int
    """Of all ranks together."""

    @property
    def total(self) -> int:
        """All of it."""
        return self.policy + self.critic + self.state


def checkpoint_size(config: Config, shape: ModelShape, critic: ModelShape) -> CheckpointSize:
    """Estimate the size of a checkpoint.

    Args:
        config: of the run.
        shape: of the policy.
        critic: of the critic's backbone.
    """
    local = config.backend == "local"
    size = DTYPE_BYTES[config.policy.dtype]
    state, critic_bytes = optimizer_bytes(shape.num_params, size, local=local), 0
    if config.critic:
        critic_size = DTYPE_BYTES[config.critic.dtype]
        critic_bytes = critic.critic_params * critic_size
        state += optimizer_bytes(critic.critic_params, critic_size, local=local)
    return CheckpointSize(policy=shape.num_params * size, critic=critic_bytes, state=state)


def expected_bytes(config: Config) -> int:
    """Return the bytes of one checkpoint, 0 where a model's shape isn't known."""
    shape = find_shape(config.policy.model)
    critic = find_shape(config.critic.model) if config.critic and config.critic.model else shape
    return 0 if shape is None or critic is None else checkpoint_size(config, shape, critic).total


def optimizer_bytes(params: int, size: int, *, local: bool) -> int:
    """Return AdamW's state over all ranks: moments in the weights' dtype, or f32 with a master copy."""
    if local:
        return params * 2 * size
    return params * (8 if size == DTYPE_BYTES["float32"] else 12)


def num_saves(steps: int, every: int) -> int:
    """Count the checkpoints of a run: every so many steps, and after the last."""
    return steps // every + (1 if steps % every else 0)


def num_kept(config: Config, steps: int | None) -> int | None:
    """Count the checkpoints that lie there at once, one in the making included; None where that isn't known."""
    saves = None if steps is None else num_saves(steps, config.checkpoint.every_steps)
    keep = config.checkpoint.keep
    # An old one goes only when the new one is complete.
    return saves if keep is None else keep + 1 if saves is None else min(saves, keep + 1)
