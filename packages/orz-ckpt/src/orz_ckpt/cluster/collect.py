"""Bring the pieces of a run together on this machine. Sources are only read.

Everything in flight lies in `DEST/.orz-collect/`; a checkpoint's folder appears when all its files are on the disk,
and a step folder's `manifest.json`, made of what its nodes recorded, comes last.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from orz_ckpt.cluster.collect_check import Checked, check_plan
from orz_ckpt.cluster.collect_journal import COLLECT_DIR, STAGED, CollectJournal
from orz_ckpt.cluster.collect_outcome import Collection, Gathered, Move
from orz_ckpt.cluster.collect_plan import GroupPlan, beside, overlapping, plan_group
from orz_ckpt.cluster.collect_publish import commit_step, publish
from orz_ckpt.cluster.collect_records import Records, merged_manifest, missing_nodes, read_records
from orz_ckpt.cluster.collect_workers import fetch_all
from orz_ckpt.cluster.fleet import Fleet
from orz_ckpt.cluster.groups import Group, Located
from orz_ckpt.cluster.locate import Location, is_here, locate
from orz_ckpt.cluster.verdict import NodeFinding, node_finding, silent_nodes
from orz_ckpt.folder import free_bytes
from orz_ckpt.manifest import MANIFEST_NAME, ManifestError, UnsafePathError
from orz_ckpt.node.pieces import STEP, LocatedPiece
from orz_ckpt.report.words import count, size
from orz_ckpt.watch import Progress, Silent
from orz_cli.errors import UsageError
from orz_cli.findings import Severity, Status


@dataclass(slots=True)
class _Task:
    """One checkpoint on its way."""

    group: Group
    records: Records
    plan: GroupPlan
    checked: Checked
    failed: bool = False
    committed: bool = False


def collect(
    fleet: Fleet, runs: Sequence[str], dest: Path, *, dry_run: bool = False, progress: Progress | None = None
) -> Collection:
    """Locate `runs` on all nodes and bring what was found to `dest`.

    Args:
        fleet: the nodes.
        runs: paths, as the user or a configuration spells them; taken to be pieces of one run.
        dest: the folder of the run here; its own folder may be it.
        dry_run: plan only.
        progress: told of bytes.

    Raises:
        UsageError: `dest` is no folder, or lies inside a piece.
        StorageFullError: the disk here is full; a second call goes on.
        CollectRunningError: another process collects there.
    """
    begin = time.perf_counter()
    dest = dest.absolute()
    if dest.exists() and not dest.is_dir():
        raise UsageError(f"--to {dest}: not a folder", remedy="give a folder; it is made if it is not there")
    found = locate(fleet, runs)
    findings: list[NodeFinding] = list(found.findings)
    tasks = [] if found.everywhere else _tasks(fleet, found, dest, findings)
    needed = _needed(tasks, dest / COLLECT_DIR / STAGED)
    free = free_bytes(dest)
    brought = False
    if free is not None and free < needed:
        message = f"{size(needed)} are to come to {dest}, {size(free)} are free"
        remedy = "free some space, or collect to another disk"
        findings.append(node_finding("low_space", message, remedy=remedy, path=dest))
    elif not dry_run and tasks:
        _bring(fleet, tasks, dest, findings, progress or Silent(), sure=not found.silent)
        brought = True
    gathered = [_gathered(task) for task in tasks]
    done = [task for task in tasks if brought and not task.failed]
    findings += [_told(task, dest) for task in done]
    return Collection(
        runs=runs,
        dest=str(dest),
        dry_run=dry_run,
        gathered=gathered,
        findings=findings,
        copied_bytes=sum(move.file.size for task in done for move in task.checked.moves if not move.there),
        seconds=time.perf_counter() - begin,
    )


def _needed(tasks: Sequence[_Task], staging: Path) -> int:
    """Return how many bytes are still to be written: what an earlier attempt left is kept, or makes room."""
    needed = 0
    for task in tasks:
        for move in task.checked.moves:
            if not move.there:
                staged = staging / _key(task, move)
                needed += max(0, move.file.size - (staged.stat().st_size if staged.is_file() else 0))
    return needed


def _tasks(fleet: Fleet, found: Location, dest: Path, findings: list[NodeFinding]) -> list[_Task]:
    """Plan each checkpoint; what cannot be collected is told."""
    tasks = []
    for group in found.groups:
        for member in group.members:
            if is_here(member.piece) and dest != Path(member.piece.path) and dest.is_relative_to(member.piece.path):
                raise UsageError(f"--to {dest} lies inside {member.piece.path}", remedy="give a folder outside of it")
        if all(member.piece.in_flight for member in group.members):
            message = f"{group.title} is a save that is going on, or was cut off; it was left where it is"
            findings.append(node_finding("in_flight", message, path=group.title, node=group.members[0].nodes[0]))
        elif len(group.attempts) <= 1 and group.files:
            task = _task(fleet, group, dest, findings)
            if task is not None:
                tasks.append(task)
    planned = {_key(task, move) for task in tasks for move in task.checked.moves}
    return [*tasks, *_beside(fleet, found, planned, dest, findings)]


def _beside(
    fleet: Fleet, found: Location, planned: set[str], dest: Path, findings: list[NodeFinding]
) -> Iterator[_Task]:
    """Plan what lies beside DeepSpeed's folders. Where nodes differ in it, it stays there."""
    members: dict[str, list[Located]] = {}
    for group in found.groups:
        for member in group.members:
            names = beside(member.piece)
            parent, node = member.piece.path.rpartition("/")[0], member.nodes[0]
            if not names or not f"{parent}/".startswith(f"{member.piece.base}/"):
                continue
            said = fleet.ask("states", {node: {"paths": [f"{parent}/{name}" for name in names]}})[node]
            files = {
                name: int(said.value[path]["size"]) for name in names if (path := f"{parent}/{name}") in said.value
            }
            rel = group.rel.rpartition("/")[0]
            files = {name: size for name, size in files.items() if f"{rel}/{name}".lstrip("/") not in planned}
            piece = LocatedPiece(path=parent, base=member.piece.base, kind="beside", files=files)
            members.setdefault(rel, []).append(Located(piece=piece, nodes=(node,)))
    for rel, located in members.items():
        noted: list[NodeFinding] = []
        unique = {(member.nodes[0], member.piece.path): member for member in located if member.piece.files}
        group = Group(rel=rel, kind="beside", step=None, members=tuple(unique.values()))
        task = _task(fleet, group, dest, noted) if unique else None
        findings += [replace(entry, severity=Severity.WARN) for entry in noted]
        if task is not None and task.checked.moves:
            task.failed = False
            yield task


def _task(fleet: Fleet, group: Group, dest: Path, findings: list[NodeFinding]) -> _Task | None:
    records = _records(fleet, group, findings) if group.kind == STEP else read_records([])
    for why in records.unreadable:
        remedy = "take an older step, or remove the broken record if another node has the same"
        findings.append(node_finding("manifest_torn", why, remedy=remedy, path=group.title))
    try:
        plan = plan_group(group, records.entries)
    except UnsafePathError as error:
        remedy = "do not load this checkpoint"
        findings.append(node_finding("path_escapes", str(error), remedy=remedy, path=group.title))
        return None
    conflicts = [*plan.conflicts, *(f"{name}: two records state different bytes" for name in records.disagreements)]
    for conflict in conflicts:
        remedy = "keep the right one: move the other away there, then collect again"
        findings.append(node_finding("collect_conflict", conflict, remedy=remedy, path=group.title))
    if conflicts:
        return None
    if plan.left:
        listed = ", ".join(f"{origin.path} on {origin.node}" for origin in plan.left[:3])
        message = f"{count(len(plan.left), 'file')} that no record of the save names: {listed}"
        findings.append(node_finding("collect_left", message, path=group.title))
    task = _Task(group=group, records=records, plan=plan, checked=check_plan(fleet, plan, dest))
    findings += task.checked.findings
    task.failed = any(entry.severity is Severity.ERROR for entry in task.checked.findings)
    in_the_way = _other_manifest(task, dest)
    if in_the_way is not None:
        findings.append(in_the_way)
        return None
    return task


def _records(fleet: Fleet, group: Group, findings: list[NodeFinding]) -> Records:
    texts: list[Mapping[str, str]] = []
    for member in group.members:
        node = member.nodes[0]
        said = fleet.ask("records", {node: {"folder": member.piece.path}})
        findings += silent_nodes({name: answer for name, answer in said.items() if answer.trouble}, group.title)
        texts += [answer.value for answer in said.values() if answer.trouble is None]
    return read_records(texts)


def _other_manifest(task: _Task, dest: Path) -> NodeFinding | None:
    """Return a finding if a committed step folder stands at the destination that is not all of this one."""
    path = dest / task.group.rel / MANIFEST_NAME
    if task.group.kind != STEP or not path.exists():
        return None
    extra = [file for file in task.plan.files if file.entry is None and not file.name.startswith(".orz/")]
    text = path.read_text(encoding="utf-8", errors="replace")
    merged = None if extra else merged_manifest(task.records, {})
    if merged is not None and merged[1] == text:
        return None
    message = f"{path.parent} is committed already, and its manifest is not that of all pieces together"
    remedy = f"collect to another folder: --to {dest}-collected; nothing there is ever replaced"
    return node_finding("collect_conflict", message, remedy=remedy, path=path)


def _bring(
    fleet: Fleet, tasks: Sequence[_Task], dest: Path, findings: list[NodeFinding], progress: Progress, *, sure: bool
) -> None:
    """Copy what is not there, then publish each checkpoint whose files all came."""
    with CollectJournal(dest) as journal:
        staging = journal.folder / STAGED
        wanted = [
            (_key(task, move), move, task.checked.states[move.origin])
            for task in tasks
            if not task.failed
            for move in task.checked.moves
            if not move.there
        ]
        progress.add_total(sum(move.file.size for _, move, _ in wanted))
        troubles = fetch_all(fleet, wanted, staging, journal=journal, progress=progress)
        for task in tasks:
            mine = [troubles[key] for move in task.checked.moves if (key := _key(task, move)) in troubles]
            findings += mine
            task.failed = task.failed or bool(mine)
            if not task.failed:
                noted: list[NodeFinding] = []
                _finish(task, tasks, staging, dest, noted)
                # Where a node is silent, nothing is sure to be missing.
                findings += noted if sure else [replace(entry, status=Status.INCONCLUSIVE) for entry in noted]
        if not any(task.failed for task in tasks):
            shutil.rmtree(journal.folder, ignore_errors=True)


def _key(task: _Task, move: Move) -> str:
    return f"{task.group.rel}/{move.file.name}".lstrip("/")


def _finish(task: _Task, tasks: Sequence[_Task], staging: Path, dest: Path, findings: list[NodeFinding]) -> None:
    """Publish one checkpoint, and commit it if it is a step folder and complete."""
    rel = task.group.rel
    alone = not any(overlapping(rel, other.group.rel) for other in tasks)
    publish(task.checked.moves, staging / rel, dest / rel, whole=alone)
    if task.group.kind != STEP:
        return
    nodes = missing_nodes(task.records)
    if nodes:
        message = (
            f"{task.group.title}: of {', '.join(nodes)}, which took part in the save, there is no record on any node"
        )
        remedy = "start those nodes, then collect again: it goes on from here"
        findings.append(node_finding("pieces_incomplete", message, remedy=remedy, path=dest / rel))
    if nodes or task.group.complete is not True:
        if not task.records.manifests:
            message = "no node recorded what it saved: the save never came to its end"
            remedy = f"orz ckpt manifest {dest / rel}, once you know that these weights are whole"
            findings.append(node_finding("uncommitted", message, remedy=remedy, path=dest / rel))
        return
    try:
        commit_step(task.records, task.plan, dest / rel)
    except ManifestError as error:
        findings.append(node_finding("manifest_invalid", str(error), path=dest / rel))
        task.failed = True
    else:
        task.committed = True


def _gathered(task: _Task) -> Gathered:
    return Gathered(
        rel=task.group.rel,
        kind=task.group.kind,
        step=task.group.step,
        moves=task.checked.moves,
        complete=task.group.complete,
        committed=task.committed,
    )


def _told(task: _Task, dest: Path) -> NodeFinding:
    moves = task.checked.moves
    nodes = dict.fromkeys(move.origin.node for move in moves if not move.there)
    came = f"from {', '.join(nodes)}" if nodes else "all there already"
    nbytes = sum(move.file.size for move in moves)
    message = f"{count(len(moves), 'file')}, {size(nbytes)}, {came}{'; committed' if task.committed else ''}"
    return node_finding("collected", message, path=dest / task.group.rel)
