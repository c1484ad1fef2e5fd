"""Checkpoints of a run: models as Hugging Face folders, state for a resume, committed as one."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from orz_ckpt.findings import Level
from orz_ckpt.inventory import list_checkpoints, newest_committed, step_folder
from orz_ckpt.storage import stage
from orz_ckpt.verify import verify
from orz_cli.findings import Severity, Status
from orz_train import __version__
from orz_train.config.dump import config_sha256
from orz_train.config.schema import Config
from orz_train.errors import CheckpointError, RunFolderError
from orz_train.ports import MetricSink

STATE = "state"
"""Folder of a checkpoint that only a resume reads."""


class Saved(Protocol):
    """A model that can be saved and resumed."""

    def save(self, folder: Path) -> None:
        """Write a Hugging Face folder."""
        ...

    def save_state(self, folder: Path) -> None:
        """Write what a resume needs besides the weights."""
        ...


class RunCheckpoints:
    """Writes `checkpoints/step_NNNNNN/` in a run folder; its manifest comes last and is the commit.

    Args:
        run_dir: the run folder, absolute.
        models: by role, `policy` and perhaps `critic`.
        config: hashed into every manifest; says how many to keep.
        prompts_sha256: of the training prompts, so that a resume notices other ones.
        sink: is told of every checkpoint, once it is committed.
    """

    def __init__(
        self, run_dir: Path, models: Mapping[str, Saved], config: Config, sink: MetricSink, *, prompts_sha256: str = ""
    ) -> None:
        self.run_dir = run_dir
        self.prompts_sha256 = prompts_sha256
        self.models = models
        self.config = config
        self.sink = sink

    def save(self, step: int, *, skipped_in_a_row: Mapping[str, int]) -> Path:
        """Commit a checkpoint of the weights after `step` steps, and of what the trainer keeps between steps.

        Raises:
            StorageError: the disk is full or refuses; what was written is removed, older checkpoints are untouched.
        """
        started = time.perf_counter()
        final = step_folder(self.run_dir, step)
        with stage(final) as staged:
            state = staged.path / STATE
            state.mkdir()
            for role, model in self.models.items():
                (staged.path / role).mkdir()
                model.save(staged.path / role)
                model.save_state(state)
            trainer = {
                "v": 1,
                "step": step,
                "skipped_in_a_row": dict(skipped_in_a_row),
                "prompts_sha256": self.prompts_sha256,
            }
            (state / "trainer.json").write_text(json.dumps(trainer) + "\n", encoding="utf-8")
            manifest = staged.commit(
                step=step,
                roles={role: role for role in self.models},
                config_sha256=config_sha256(self.config),
                writer=f"orz-train {__version__}",
                meta={"name": self.config.name},
            )
        self.sink.event(
            "checkpoint_saved",
            step=step,
            path=final,
            bytes=sum(entry.size for entry in manifest.files.values()),
            seconds=time.perf_counter() - started,
        )
        self._prune()
        return final

    def _prune(self) -> None:
        """Remove committed checkpoints beyond the newest `checkpoint.keep`."""
        if self.config.checkpoint.keep is None:
            return
        committed = [checkpoint for checkpoint in list_checkpoints(self.run_dir) if checkpoint.committed]
        for checkpoint in committed[: -self.config.checkpoint.keep]:
            (checkpoint.path / "manifest.json").unlink()  # first: half a folder must not look committed
            shutil.rmtree(checkpoint.path)
            self.sink.event("checkpoint_removed", step=checkpoint.step, path=checkpoint.path)


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """A committed checkpoint to go on from."""

    path: Path
    """Its folder, `checkpoints/step_NNNNNN`."""
    step: int
    """Steps taken before it was saved."""
    skipped_in_a_row: Mapping[str, int]
    """By role, updates in a row that weren't finite."""
    prompts_sha256: str
    """Of the training prompts; empty if unknown."""

    @property
    def run_dir(self) -> Path:
        """The run folder it belongs to."""
        return self.path.parent.parent

    @property
    def state(self) -> Path:
        """The folder that only a resume reads."""
        return self.path / STATE


def resume_point(path: Path) -> ResumePoint:
    """Open a checkpoint folder, or the newest committed one of a run folder.

    Raises:
        RunFolderError: nothing committed is there.
        CheckpointError: its state is missing or torn.
    """
    folder = path.absolute()
    if (folder / "checkpoints").is_dir():
        committed = [checkpoint.path for checkpoint in list_checkpoints(folder) if checkpoint.committed]
        if not committed:
            raise RunFolderError(
                f"{folder}: the run has no committed checkpoint to resume from",
                remedy="start again with a new --run-dir, or with --resume never",
            )
        folder = committed[-1]
    if not (folder / "manifest.json").is_file() or folder.parent.name != "checkpoints":
        raise RunFolderError(
            f"{path}: expected a run folder, or a committed checkpoint in one (RUN/checkpoints/step_NNNNNN)",
            remedy="look for one with `orz ckpt verify RUN`; a copy needs config.yaml and checkpoints/ around it",
        )
    try:
        state = json.loads((folder / STATE / "trainer.json").read_text(encoding="utf-8"))
        return ResumePoint(
            folder, int(state["step"]), dict(state.get("skipped_in_a_row", {})), str(state.get("prompts_sha256", ""))
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{folder}: the checkpoint is damaged: {STATE}/trainer.json can't be read: {error}",
            remedy=_instead_of(folder),
        ) from error


def starting_point(run_dir: Path | None, resume: str) -> ResumePoint | None:
    """Find the checkpoint to start from, if there is one.

    Raises:
        RunFolderError: the path holds none, or going on from it would collide with newer checkpoints.
    """
    if resume == "never":
        return None
    if resume == "auto":
        if run_dir is None or not (run_dir / "checkpoints").is_dir():
            return None
        _refuse_torn(run_dir)
        return resume_point(run_dir) if newest_committed(run_dir) is not None else None
    start = resume_point(Path(resume))
    if run_dir is not None and os.path.realpath(run_dir) != os.path.realpath(start.run_dir):
        return start
    newer = [c.path.name for c in list_checkpoints(start.run_dir) if c.committed and c.step > start.step]
    if newer:
        raise RunFolderError(
            f"{start.path}: the run went on from here and committed {', '.join(newer)}",
            remedy="give another --run-dir to branch off from this checkpoint, or move the newer ones away",
        )
    return start


def _refuse_torn(run_dir: Path) -> None:
    """Refuse a run whose newest checkpoint has a manifest that can't be read: going on would pass it over in silence.

    Raises:
        CheckpointError: names it.
    """
    checkpoints = list_checkpoints(run_dir)
    if checkpoints and not checkpoints[-1].committed and (checkpoints[-1].path / "manifest.json").exists():
        newest = checkpoints[-1].path
        raise CheckpointError(
            f"{newest}: the checkpoint is damaged: {checkpoints[-1].problem}",
            remedy=f"{_instead_of(newest)}; or move it away to go on from an older one here",
        )


def require_whole(start: ResumePoint) -> None:
    """Read every byte of a checkpoint and compare it with its manifest: a resume must not train on damage.

    Raises:
        CheckpointError: something is missing or differs; names it.
    """
    report = verify(start.path, level=Level.FULL)
    if report.status() is Status.OK:
        return
    errors = [finding for finding in report.findings if finding.severity is Severity.ERROR]
    shown = "\n".join(f"  {finding.path}: {finding.message}" for finding in errors[:5])
    raise CheckpointError(f"{start.path}: the checkpoint is damaged:\n{shown}", remedy=_instead_of(start.path))


def _instead_of(folder: Path) -> str:
    """Say how to go on without a checkpoint that can't be used."""
    remedy = f"see `orz ckpt verify {folder}`"
    older = [c for c in list_checkpoints(folder.parent.parent) if c.committed and c.path.name < folder.name]
    return remedy + (f"; go on from an older one: --resume {older[-1].path} --run-dir NEW" if older else "")
