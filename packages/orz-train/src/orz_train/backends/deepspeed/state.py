"""What a rank needs to go on where it left off, besides the weights: one file a rank."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from orz_ckpt.manifest import FileEntry
from orz_train.backends.deepspeed.engine import TrainingEngine
from orz_train.backends.state_writing import write_state
from orz_train.checkpoint.state_names import rank_state, ranks_among
from orz_train.errors import CheckpointError


def state_file(folder: Path, role: str, rank: int, num_ranks: int) -> Path:
    """Return the path of a rank's state."""
    return folder / rank_state(role, rank=rank, num_ranks=num_ranks)


def save_state(engine: TrainingEngine, role: str, folder: Path) -> dict[str, FileEntry]:
    """Write this rank's moments and count, and in bfloat16 its masters, as tensors and plain values.

    Returns:
        The file, on the disk and hashed, by path relative to the step folder.
    """
    return write_state(state_of(engine), state_file(folder, role, engine.rank, engine.num_ranks))


def state_of(engine: TrainingEngine, *, copy: bool = False) -> dict[str, Any]:
    """Return that state on the host.

    Args:
        engine: whose.
        copy: copy tensors that are on the host already, too; else those are the engine's own.
    """
    engine.clear_padding()
    masters = engine.masters()
    return {
        **_layout(engine),
        "updates": engine.updates,
        "moments": [
            {key: value.to("cpu", copy=copy) for key, value in engine.adamw.state.get(master, {}).items()}
            for master in masters
        ],
        "masters": [master.detach().to("cpu", copy=copy) for master in masters] if _has_masters(engine) else [],
    }


def load_state(engine: TrainingEngine, role: str, folder: Path) -> None:
    """Read it back, onto an engine whose weights are the checkpoint's.

    Raises:
        CheckpointError: it was saved by another number of ranks, under another stage or precision, or not at all.
    """
    path = state_file(folder, role, engine.rank, engine.num_ranks)
    if not path.is_file():
        raise _missing(path, role, engine.num_ranks)
    state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    masters = engine.masters()
    expected = _layout(engine)
    found = {key: state.get(key) for key in expected}
    if found != expected:
        raise CheckpointError(
            f"{path}: saved as {_shown(found)}, this run is {_shown(expected)}",
            remedy="resume with the settings of the checkpoint's run, or start a new run from its model folder",
        )
    with torch.no_grad():
        for master, saved in zip(masters, state["masters"], strict=False):
            master.copy_(saved)
    for master, moments in zip(masters, state["moments"], strict=True):
        engine.adamw.state[master] = {key: value.to(master.device) for key, value in moments.items()}
    engine.updates = state["updates"]


def _layout(engine: TrainingEngine) -> dict[str, Any]:
    """Return what decides how state is cut."""
    return {
        "v": 1,
        "zero_stage": engine.cluster.zero_stage,
        "dtype": engine.settings.dtype,
        "sizes": [master.numel() for master in engine.masters()],
    }


def _has_masters(engine: TrainingEngine) -> bool:
    """Whether the optimizer works on more bits than the weights have."""
    return engine.settings.dtype != "float32"


def _shown(layout: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in layout.items())


def _missing(path: Path, role: str, num_ranks: int) -> CheckpointError:
    """Explain a missing file by what is there instead."""
    others = sorted({one.num_ranks for one in ranks_among((file.name for file in path.parent.glob("*")), role)})
    if others and num_ranks not in others:
        return CheckpointError(
            f"{path.parent}: the {role}'s state was saved by {' and '.join(map(str, others))} ranks, this run has"
            f" {num_ranks}",
            remedy=f"resume on {others[0]} ranks, or start a new run from the checkpoint's model folder",
        )
    return CheckpointError(
        f"{path}: the {role}'s state is missing: training would go on with a fresh optimizer",
        remedy="look for the file on the node that wrote it; or start a new run from the checkpoint's model folder",
    )
