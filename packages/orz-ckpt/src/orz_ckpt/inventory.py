"""What checkpoints a run has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from orz_ckpt.manifest import MANIFEST_NAME, Manifest, ManifestError, load
from orz_ckpt.steps import our_step

if TYPE_CHECKING:
    from pathlib import Path

CHECKPOINTS_DIR: Final = "checkpoints"
_UNCOMMITTED: Final = "uncommitted: the save never came to its end"
_FOREIGN: Final = "no manifest: another trainer saved it"
_EMPTY: Final = "no weights: a save of them may be going on, was cut off, or went elsewhere"
WEIGHTS_SUFFIXES: Final = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".distcp")
"""How names of files of weights end, where names are all there is to tell."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """One step folder of a run, whoever saved it."""

    step: int
    path: Path
    manifest: Manifest | None
    """None where there is none that can be read; then `problem` says why."""
    problem: str = ""

    @property
    def committed(self) -> bool:
        """Whether the save came to its end and its manifest can be read."""
        return self.manifest is not None

    @property
    def unusable(self) -> bool:
        """Whether a manifest is there that cannot be read."""
        return not self.committed and self.problem not in {_UNCOMMITTED, _FOREIGN, _EMPTY}

    @property
    def state(self) -> str:
        """What a table says; `problem` says more."""
        if self.committed:
            return "committed"
        return "its manifest cannot be used" if self.unusable else self.problem.partition(":")[0]


def step_folder(run_dir: Path, step: int) -> Path:
    """Return where the checkpoint of `step` belongs in a run folder."""
    return run_dir / CHECKPOINTS_DIR / f"step_{step:06d}"


def step_of(folder: Path) -> int | None:
    """Return the step that the name of a checkpoint folder states, None where it states none."""
    return our_step(folder.name)


def list_checkpoints(run_dir: Path) -> list[Checkpoint]:
    """Return the step folders of a run by step, committed or not. Folders in flight are none.

    Raises:
        OSError: the folder of checkpoints cannot be listed. A run that has none yet has an empty list.
    """
    folder = run_dir / CHECKPOINTS_DIR
    return checkpoints_in(folder) if folder.exists() else []


def checkpoints_in(folder: Path) -> list[Checkpoint]:
    """Return the step folders right in `folder` by step, committed or not. Folders in flight are none.

    Raises:
        OSError: it cannot be listed.
    """
    found = [(step, path) for path in folder.iterdir() if (step := step_of(path)) is not None and path.is_dir()]
    return [checkpoint(step, path) for step, path in sorted(found)]


def folder_of_steps(path: Path) -> Path:
    """Return the folder in which the step folders of a run lie, given that folder itself or the run's."""
    return path / CHECKPOINTS_DIR if (path / CHECKPOINTS_DIR).is_dir() else path


def newest_committed(run_dir: Path) -> Path | None:
    """Return the step folder of the highest step that has a readable manifest, None where none has.

    Whether its bytes are still what the manifest says is what `orz_ckpt.verify` finds out.

    Raises:
        OSError: the folder of checkpoints cannot be listed.
    """
    committed = [checkpoint.path for checkpoint in list_checkpoints(run_dir) if checkpoint.committed]
    return committed[-1] if committed else None


def checkpoint(step: int, path: Path) -> Checkpoint:
    """Return the step folder `path` as its manifest says, if it can be read."""
    try:
        return Checkpoint(step=step, path=path, manifest=load(path / MANIFEST_NAME))
    except FileNotFoundError:
        return Checkpoint(step=step, path=path, manifest=None, problem=_UNCOMMITTED)
    except (ManifestError, OSError) as error:
        return Checkpoint(step=step, path=path, manifest=None, problem=str(error))


def foreign_checkpoint(step: int, path: Path, *, weights: bool) -> Checkpoint:
    """Return a step folder without a manifest of ours, which another trainer saved.

    Args:
        step: as its name states.
        path: the folder.
        weights: whether it holds some.
    """
    return Checkpoint(step=step, path=path, manifest=None, problem=_FOREIGN if weights else _EMPTY)
