"""Bytes that checkpoints take, against what is free."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from orz_train.config.checkpoint_size import checkpoint_size, num_kept, num_saves
from orz_train.config.model_shapes import ModelShape
from orz_train.config.schema import Config

FORMULAS = {
    "policy": "parameters x bytes of policy.dtype",
    "critic": "parameters without the output matrix x bytes of critic.dtype",
    "state": "AdamW's state of both: 2 x bytes of the dtype a parameter (local); 8, or 12 with bfloat16 (cluster)",
    "saves": "one every checkpoint.every_steps, and one after the last step",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Disk:
    """What a run's checkpoints need."""

    policy: int
    """Bytes of one checkpoint's policy folder."""
    critic: int
    state: int
    saves: int | None
    """None where the length of the run isn't known."""
    kept: int | None
    """Checkpoints that lie there at once, one in the making included."""
    folder: str
    free: int | None
    """Bytes free where the run folder would be; None where that can't be asked."""

    @property
    def checkpoint(self) -> int:
        """Bytes of one checkpoint."""
        return self.policy + self.critic + self.state

    @property
    def needed(self) -> int | None:
        """Bytes of all checkpoints that lie there at once."""
        return None if self.kept is None else self.kept * self.checkpoint


def plan_disk(config: Config, shape: ModelShape, critic: ModelShape, *, steps: int | None, folder: Path) -> Disk:
    """Estimate the disk that checkpoints take.

    Args:
        config: of the run.
        shape: of the policy.
        critic: of the critic's backbone.
        steps: of the run; None if unknown.
        folder: the run folder; it needn't exist.
    """
    size = checkpoint_size(config, shape, critic)
    return Disk(
        policy=size.policy,
        critic=size.critic,
        state=size.state,
        saves=None if steps is None else num_saves(steps, config.checkpoint.every_steps),
        kept=num_kept(config, steps),
        folder=str(folder),
        free=free_bytes(folder),
    )


def free_bytes(folder: Path) -> int | None:
    """Return the bytes free on the disk where a folder is, or would be made; None where that can't be asked."""
    place = folder.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        return shutil.disk_usage(place).free
    except OSError:
        return None
