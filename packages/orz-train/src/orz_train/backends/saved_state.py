"""How a checkpoint's state is cut, read off its files before any model is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from orz_ckpt.manifest import MANIFEST_NAME, load
from orz_ckpt.records import holders
from orz_train.checkpoint.state_names import STATE, in_state_folder, process_state, rank_state, ranks_among
from orz_train.config.schema import Config
from orz_train.errors import RunFolderError


@dataclass(frozen=True, slots=True)
class Cut:
    """Over how many processes a model's optimizer state is spread, and how."""

    backend: str
    num_ranks: int
    zero_stage: int

    def __str__(self) -> str:
        if self.backend == "local":
            return "one process (backend: local)"
        ranks = "1 rank" if self.num_ranks == 1 else f"{self.num_ranks} ranks"
        return f"{ranks} under ZeRO stage {self.zero_stage} (backend: cluster)"


def require_fitting_state(checkpoint: Path, config: Config) -> None:
    """Refuse a checkpoint that this run's processes couldn't take their optimizer states from.

    Args:
        checkpoint: a step folder, known to be whole.
        config: of the run that would go on from it.

    Raises:
        RunFolderError: a model's state is missing, or cut otherwise; names both ways and the way out.
    """
    ranks = {"policy": config.policy_ranks} | ({"critic": config.critic_ranks} if config.critic is not None else {})
    for role, num_ranks in ranks.items():
        wanted = _wanted(config, num_ranks)
        saved = _saved(checkpoint / STATE, role) or _elsewhere(checkpoint, role, wanted.zero_stage)
        if saved != wanted:
            weights = " ".join(f"{each}.model={checkpoint / each}" for each in ranks if (checkpoint / each).is_dir())
            raise RunFolderError(
                f"{checkpoint}: the {role}'s optimizer state was saved by {saved or 'nobody'}, this run has {wanted}",
                remedy=("go on with what it was saved by; or " if saved else "")
                + f"start a new run from the weights: --resume never --run-dir NEW {weights}",
            )


def _wanted(config: Config, num_ranks: int) -> Cut:
    return Cut(config.backend, num_ranks, config.cluster.zero_stage if config.backend == "cluster" else 0)


def _saved(state: Path, role: str) -> Cut | None:
    """Return how a model's state is cut; None if there is none."""
    if (state / process_state(role)).is_file():
        return Cut("local", 1, 0)
    for one in ranks_among((path.name for path in state.glob("*")), role):
        file = state / rank_state(role, rank=one.rank, num_ranks=one.num_ranks)
        head = torch.load(file, weights_only=True, map_location="cpu", mmap=True)  # reads no tensor
        return Cut("cluster", one.num_ranks, head["zero_stage"])
    return None


def _elsewhere(checkpoint: Path, role: str, zero_stage: int) -> Cut | None:
    """Return how a model's state is cut whose files are all on other nodes' disks, as far as their names tell.

    Whether the stage is `zero_stage` shows when the ranks load.
    """
    path = checkpoint / MANIFEST_NAME
    held = holders(load(path)) if path.is_file() and path.stat().st_size else {}
    found = ranks_among(in_state_folder(name for names in held.values() for name in names), role)
    return Cut("cluster", found[0].num_ranks, zero_stage) if found else None
