"""Where a run goes on: a committed checkpoint, found, opened and looked through."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orz_ckpt.findings import CkptFinding, Level
from orz_ckpt.inventory import list_checkpoints, newest_committed
from orz_ckpt.manifest import MANIFEST_NAME, Manifest, load
from orz_ckpt.records import holders
from orz_ckpt.verify import verify
from orz_cli.findings import Severity
from orz_train.checkpoint.copy_preflight import where_copies_are
from orz_train.checkpoint.state_names import STATE
from orz_train.errors import CheckpointError, RunFolderError


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
    watches: Mapping[str, Any] = field(default_factory=dict)
    """What the trainer's watches had seen, by watch."""

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
                remedy=where_copies_are(folder) or "start again with a new --run-dir, or with --resume never",
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
            path=folder,
            step=int(state["step"]),
            skipped_in_a_row=dict(state.get("skipped_in_a_row", {})),
            prompts_sha256=str(state.get("prompts_sha256", "")),
            watches=dict(state.get("watches", {})),
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

    Of a checkpoint whose parts are on the disks of several nodes, this is about the part that is here.

    Raises:
        CheckpointError: something is missing or differs; names it.
    """
    report = verify(start.path, level=Level.FULL)
    elsewhere = _files_elsewhere(start.path)
    errors = [
        finding
        for finding in report.findings
        if finding.severity is Severity.ERROR and not _is_elsewhere(finding, elsewhere, start.path)
    ]
    if not errors:
        return
    shown = "\n".join(f"  {finding.path}: {finding.message}" for finding in errors[:5])
    raise CheckpointError(f"{start.path}: the checkpoint is damaged:\n{shown}", remedy=_instead_of(start.path))


def _files_elsewhere(folder: Path) -> set[str]:
    """Return the files of a checkpoint that its manifest says are on other nodes, and that are not here."""
    manifest: Manifest = load(folder / MANIFEST_NAME)
    held = {name for names in holders(manifest).values() for name in names}
    return {name for name in held if not (folder / name).exists()}


def _is_elsewhere(finding: CkptFinding, elsewhere: set[str], folder: Path) -> bool:
    """Say whether a finding only tells that a file is on another node's disk."""
    if not elsewhere:
        return False
    if finding.code == "weights_elsewhere":
        return True
    path = Path(finding.path)
    return path.is_relative_to(folder) and path.relative_to(folder).as_posix() in elsewhere


def _instead_of(folder: Path) -> str:
    """Say how to go on without a checkpoint that can't be used."""
    remedy = f"see `orz ckpt verify {folder}`"
    older = [c for c in list_checkpoints(folder.parent.parent) if c.committed and c.path.name < folder.name]
    return remedy + (f"; go on from an older one: --resume {older[-1].path} --run-dir NEW" if older else "")
