"""Delete what the plan says: first another name, at once, then the files, so that no reader sees half of a step."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orz_ckpt.disk.folder import try_remove
from orz_ckpt.disk.links import resolved
from orz_ckpt.disk.mounts import is_mount_point
from orz_ckpt.disk.trash import throw_away, thrown_away
from orz_ckpt.findings import CkptFinding, Level, conclude, finding
from orz_ckpt.inventory import CHECKPOINTS_DIR, folder_of_steps
from orz_ckpt.manifest import MANIFEST_NAME, ManifestError, load
from orz_ckpt.prune.plan import Keep, Plan, Planned, freed_bytes, plan_prune
from orz_ckpt.quoting import shell_path
from orz_ckpt.records import nodes_of, record_name
from orz_ckpt.report.words import count, size
from orz_ckpt.subject import Kind, identify, missing
from orz_ckpt.verify import verify
from orz_ckpt.watch import Progress, Silent
from orz_cli.errors import UsageError
from orz_cli.findings import Severity, Status, to_json


@dataclass(frozen=True, kw_only=True, slots=True)
class Pruned:
    """What was deleted, or would be."""

    run: Path
    dry_run: bool
    plan: Plan
    deleted: Sequence[Planned]
    """What is gone; empty in a dry run."""
    freed_bytes: int
    """Of that, and of what an earlier call had not come to delete."""
    findings: Sequence[CkptFinding]
    seconds: float

    def status(self, fail_on: Severity = Severity.ERROR) -> Status:
        """Conclude from the findings."""
        return conclude(self.findings, fail_on)

    def to_json(self, fail_on: Severity = Severity.ERROR) -> dict[str, Any]:
        """Return the JSON object that all judging commands share, with this command's own keys behind."""
        gone = {entry.step for entry in self.deleted}
        return to_json(
            self.status(fail_on),
            self.findings,
            path=str(self.run),
            dry_run=self.dry_run,
            newest_good="" if self.plan.newest_good is None else str(self.plan.newest_good),
            checkpoints=[
                {
                    "path": str(entry.path),
                    "step": entry.step,
                    "delete": entry.delete,
                    "deleted": entry.step in gone,
                    "why": entry.why,
                    "bytes": entry.bytes,
                }
                for entry in self.plan.entries
            ],
            freed_bytes=self.freed_bytes,
            seconds=round(self.seconds, 3),
        )


def prune(
    run: Path, keep: Keep, *, dry_run: bool = True, level: Level = Level.FULL, progress: Progress | None = None
) -> Pruned:
    """Delete the committed steps of `run` that nothing asks to keep and that are older than the newest good one.

    Args:
        run: the run's folder, or the one of its checkpoints.
        keep: what is to stay.
        dry_run: plan only; the newest step is verified all the same.
        level: how much of the newest step is read to call it good.
        progress: told of the bytes that this reads.

    Raises:
        MissingPathError: `run` is not there.
        UsageError: it is no run, or reached through a link; or nothing is said of what to keep.
        OSError: its folder of checkpoints cannot be listed.
    """
    begin = time.perf_counter()
    if not (keep.last or keep.every or keep.steps):
        remedy = "--keep-last N, --keep-every K, --keep STEP; the newest good step always stays"
        raise UsageError("prune: what is to stay? 0 keeps nothing", remedy=remedy)
    folder = _folder(run, lambda target: prune_command(target, keep, level=level, yes=not dry_run))
    findings: list[CkptFinding] = []

    def is_good(path: Path) -> bool:
        absent = _nodes_without_record(path)
        if absent:
            message = f"parts of it are on {', '.join(absent)}, so this disk does not tell whether it is good"
            remedy = f"orz ckpt collect {shell_path(run)} --to DEST --ray, then prune there"
            findings.append(finding("prune_not_good", message, remedy=remedy, path=path))
            return False
        status = verify(path, level=level, require_manifest=True, progress=progress or Silent()).status()
        if status is not Status.OK:
            message = f"it is {status.value}: nothing older is deleted on its account"
            findings.append(finding("prune_not_good", message, remedy=f"orz ckpt verify {shell_path(path)}", path=path))
        return status is Status.OK

    plan = plan_prune(folder, keep, is_good)
    if plan.newest_good is None and any(entry.why == "no newer one is good" for entry in plan.entries):
        message = "no committed step is good, so nothing is deleted"
        findings.append(finding("prune_nothing_good", message, remedy=f"orz ckpt verify {shell_path(run)}", path=run))
    missing = sorted(keep.steps - {entry.step for entry in plan.entries})
    if missing:
        message = f"--keep {', '.join(map(str, missing))}: there is no such step"
        findings.append(finding("prune_no_such_step", message, path=folder))
    deleted: list[Planned] = []
    freed = 0
    if not dry_run:
        freed += _empty_trash(folder, findings)
        for entry in plan.doomed:
            if _delete(entry, findings):
                deleted.append(entry)
                freed += entry.bytes
    return Pruned(
        run=run,
        dry_run=dry_run,
        plan=plan,
        deleted=deleted,
        freed_bytes=freed,
        findings=findings,
        seconds=time.perf_counter() - begin,
    )


def _nodes_without_record(path: Path) -> list[str]:
    """Return the nodes that took part in a save and left no record here: each saved to a disk of its own."""
    try:
        nodes = nodes_of(load(path / MANIFEST_NAME))
    except (ManifestError, OSError):
        return []  # verify says what is wrong with it
    return sorted(node for node in nodes if not (path / record_name(node)).is_file())


def prune_command(run: Path, keep: Keep, *, level: Level = Level.FULL, yes: bool = False) -> str:
    """Return the command line of a call of `prune`, to be pasted; with `--yes` if it is to delete."""
    words = ["orz", "ckpt", "prune", shell_path(run)]
    words += ["--keep-last", str(keep.last)] if keep.last else []
    words += ["--keep-every", str(keep.every)] if keep.every else []
    words += ["--level", level.value] if level is not Level.FULL else []
    words += [word for step in sorted(keep.steps) for word in ("--keep", str(step))]
    return " ".join([*words, *(["--yes"] if yes else [])])


def _folder(run: Path, command: Callable[[Path], str]) -> Path:
    if not run.exists():
        raise missing(run)
    folder = folder_of_steps(run)
    if folder == run and (not run.is_dir() or identify(run).kind is not Kind.RUN):
        remedy = f"give a run's folder, in which {CHECKPOINTS_DIR}/step_000050 and its like lie"
        raise UsageError(f"{run} holds no folder {CHECKPOINTS_DIR} and no steps: not a run of orz", remedy=remedy)
    for path in (run, folder):
        if path.is_symlink():
            target = resolved(path)
            remedy = f"if that is what you mean: {command(target)}"
            raise UsageError(f"{path} is a link to {target}; prune follows no links", remedy=remedy)
    return folder


def _empty_trash(folder: Path, findings: list[CkptFinding]) -> int:
    """Delete what an earlier call, or a run, had renamed and did not come to delete; return the bytes."""
    freed = 0
    for path in thrown_away(folder):
        nbytes = freed_bytes(path)
        if _remove(path, findings):
            freed += nbytes
    return freed


def _delete(entry: Planned, findings: list[CkptFinding]) -> bool:
    """Delete one step folder; say so, or why not."""
    try:
        trash = throw_away(entry.path)
    except OSError as error:
        message = f"it cannot be renamed: {error.strerror or error}"
        remedy = "check that this user may write to the folder around it"
        if is_mount_point(entry.path):
            remedy = f"a disk is mounted there: umount {shell_path(entry.path)}, then prune again"
        findings.append(finding("prune_failed", message, remedy=remedy, path=entry.path))
        return False
    if not _remove(trash, findings):
        return False
    findings.append(finding("pruned", f"{size(entry.bytes)} freed", path=entry.path))
    return True


def _remove(trash: Path, findings: list[CkptFinding]) -> bool:
    """Delete a renamed folder; say why not."""
    error = try_remove(trash)
    if error is not None:
        left = count(sum(1 for _ in trash.rglob("*")), "file")
        message = f"it was renamed, and cannot be deleted: {error.strerror or error}; {left} left"
        remedy = "check the permissions, then prune again: it goes on there"
        findings.append(finding("prune_failed", message, remedy=remedy, path=trash))
    return error is None
