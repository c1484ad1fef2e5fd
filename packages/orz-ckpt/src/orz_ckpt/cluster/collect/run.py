"""Bring the pieces of a run together on this machine. Sources are only read.

Everything in flight lies in `DEST/.orz-collect/`; a checkpoint's folder appears when all its files are on the disk,
and a step folder's `manifest.json`, made of what its nodes recorded, comes last.
"""

from __future__ import annotations

import shlex
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from orz_ckpt.cluster.collect.journal import STAGED, CollectJournal
from orz_ckpt.cluster.collect.outcome import Collection
from orz_ckpt.cluster.collect.plan import overlapping
from orz_ckpt.cluster.collect.publish import commit_step, publish
from orz_ckpt.cluster.collect.tasks import Task, gathered, key_of, lacking, plan_tasks, told
from orz_ckpt.cluster.collect.workers import fetch_all
from orz_ckpt.cluster.fleet import Fleet
from orz_ckpt.cluster.locate import Location, locate
from orz_ckpt.cluster.verdict import NodeFinding, node_finding
from orz_ckpt.disk.folder import free_bytes
from orz_ckpt.disk.links import resolved
from orz_ckpt.disk_errors import blocked_way, check_name, no_inodes_left, refuse_link_to_nothing
from orz_ckpt.errors import CkptError, StorageError, is_full
from orz_ckpt.formats.hf import arrange
from orz_ckpt.manifest import ManifestError
from orz_ckpt.node.pieces import STEP
from orz_ckpt.node.scan import BUDGET_S
from orz_ckpt.readers.deepspeed.names import holds_one
from orz_ckpt.report.words import size
from orz_ckpt.sources import detect
from orz_ckpt.subject import checkpoint_around, is_checkpoint
from orz_ckpt.unfinished import COLLECT_DIR, note_collection
from orz_ckpt.watch import Progress, Silent
from orz_cli.errors import UsageError
from orz_cli.findings import Status


def collect(
    fleet: Fleet,
    runs: Sequence[str],
    dest: Path,
    *,
    dry_run: bool = False,
    budget_s: float = BUDGET_S,
    progress: Progress | None = None,
) -> Collection:
    """Locate `runs` on all nodes and bring what was found to `dest`.

    Args:
        fleet: the nodes.
        runs: paths, as the user or a configuration spells them; taken to be pieces of one run.
        dest: the folder of the run here; its own folder may be it.
        dry_run: plan only.
        budget_s: how long a node may search.
        progress: told of bytes.

    Raises:
        UsageError: `dest` is no folder, is a link to nothing, is one of weights, or lies inside a piece, a run or
            a checkpoint.
        StorageFullError: the disk here is full; a second call goes on.
        CollectRunningError: another process collects there.
        StorageError: `dest` cannot be written; a second call goes on.
    """
    begin = time.perf_counter()
    dest = dest.absolute()
    check_name(dest)
    refuse_link_to_nothing(dest)
    if dest.exists() and not dest.is_dir():
        raise UsageError(f"--to {dest}: not a folder", remedy="give a folder; it is made if it is not there")
    _refuse_dest(dest, runs)
    found = locate(fleet, runs, budget_s=budget_s)
    findings: list[NodeFinding] = list(found.findings)
    tasks = [] if found.everywhere else plan_tasks(fleet, found, dest, findings)
    needed = _needed(tasks, dest / COLLECT_DIR / STAGED)
    free = free_bytes(dest)
    brought = False
    if free is not None and free < needed:
        message = f"{size(needed)} are to come to {dest}, {size(free)} are free"
        remedy = "free some space, or collect to another disk"
        findings.append(node_finding("low_space", message, remedy=remedy, path=dest))
    elif not dry_run and tasks:
        try:
            _bring(fleet, tasks, dest, findings, progress or Silent(), found)
        except CkptError:
            raise
        except OSError as error:
            raise StorageError(
                f"{error.filename or dest} cannot be written: {error.strerror or error}; the sources are as they were",
                remedy=blocked_way(error, dest)
                or (is_full(error) and no_inodes_left(dest))
                or "check the disk and that this user may write there, then collect again: it goes on from here",
            ) from error
        brought = True
    done = [task for task in tasks if brought and not task.failed]
    findings += [told(task, str(dest / task.group.rel)) for task in done]
    return Collection(
        runs=runs,
        dest=str(dest),
        dry_run=dry_run,
        gathered=[gathered(task) for task in tasks],
        findings=findings,
        copied_bytes=sum(move.file.size for task in done for move in task.checked.moves if not move.there),
        seconds=time.perf_counter() - begin,
    )


def _refuse_dest(dest: Path, runs: Sequence[str]) -> None:
    """Refuse a destination in which what comes would be found as something else."""
    remedy = "give the run's own folder, or one beside it"
    there = resolved(dest)
    for run in runs:
        here = resolved(Path(run))
        if there != here and here.is_dir() and there.is_relative_to(here):
            raise UsageError(f"--to {dest} lies inside the run {run}, which would hold all twice", remedy=remedy)
    begun = (there / COLLECT_DIR).is_dir()  # an earlier collection was cut off there: this one goes on
    around = there if there.is_dir() and is_checkpoint(there) and not begun else checkpoint_around(there)
    if around is not None:
        raise UsageError(f"--to {dest} is inside the checkpoint {around}, which would no longer verify", remedy=remedy)
    if there.is_dir() and detect(there) is not None and not _holds_tags_alone(there):
        raise UsageError(f"--to {dest} is a folder of weights, not of a run", remedy=remedy)


def _holds_tags_alone(folder: Path) -> bool:
    """Return whether checkpoints of DeepSpeed lie in a folder as steps lie in a run's, and no weights beside them."""
    weights = arrange(folder, folder.iterdir()).weights
    return detect(folder) == "deepspeed" and not holds_one(folder) and not weights


def _needed(tasks: Sequence[Task], staging: Path) -> int:
    """Return how many bytes are still to be written: what an earlier attempt left is kept, or makes room."""
    needed = 0
    for task in tasks:
        for move in task.checked.moves:
            if not move.there:
                staged = staging / key_of(task, move)
                needed += max(0, move.file.size - (staged.stat().st_size if staged.is_file() else 0))
    return needed


def _bring(
    fleet: Fleet, tasks: Sequence[Task], dest: Path, findings: list[NodeFinding], progress: Progress, found: Location
) -> None:
    """Copy what is not there, then publish each checkpoint whose files all came."""
    with CollectJournal(dest) as journal:
        note_collection(journal.folder, found.runs, shlex.split(found.options))
        staging = journal.folder / STAGED
        wanted = [
            (key_of(task, move), move, task.checked.states[move.origin])
            for task in tasks
            if not task.failed
            for move in task.checked.moves
            if not move.there
        ]
        progress.add_total(sum(move.file.size for _, move, _ in wanted))
        troubles = fetch_all(fleet, wanted, staging, journal=journal, progress=progress)
        for task in tasks:
            mine = [troubles[key] for move in task.checked.moves if (key := key_of(task, move)) in troubles]
            findings += mine
            task.failed = task.failed or bool(mine)
            if not task.failed:
                noted = _finish(task, tasks, staging, dest, findings)
                # Where a node is silent, nothing is sure to be missing.
                findings += (
                    noted if not found.silent else [replace(entry, status=Status.INCONCLUSIVE) for entry in noted]
                )
        if not any(task.failed for task in tasks):
            shutil.rmtree(journal.folder, ignore_errors=True)


def _finish(
    task: Task, tasks: Sequence[Task], staging: Path, dest: Path, findings: list[NodeFinding]
) -> list[NodeFinding]:
    """Publish one checkpoint, and commit it if it is a step folder and complete; return why it is not.

    Args:
        task: all its files have come.
        tasks: all of this collection.
        staging: where its files lie.
        dest: the run's folder here.
        findings: see `lacking`.
    """
    rel = task.group.rel
    alone = not any(overlapping(rel, other.group.rel) for other in tasks)
    publish(task.checked.moves, staging / rel, dest / rel, whole=alone)
    if task.group.kind != STEP:
        return []
    lacks = lacking(task, str(dest / rel), findings)
    if lacks is not None:
        return lacks
    try:
        commit_step(task.records, task.plan, dest / rel)
    except ManifestError as error:
        task.failed = True
        return [node_finding("manifest_invalid", str(error), remedy="take an older step", path=dest / rel)]
    task.committed = True
    return []
