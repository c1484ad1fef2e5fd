"""What is to be brought of each checkpoint, and from which node: read, and nothing written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from orz_ckpt.cluster.collect.check import Checked, check_plan, differing, records_of, unusable_records
from orz_ckpt.cluster.collect.outcome import Gathered, Move
from orz_ckpt.cluster.collect.plan import GroupPlan, beside, plan_group
from orz_ckpt.cluster.collect.records import Records, merged_manifest, missing_nodes, read_records
from orz_ckpt.cluster.fleet import Fleet
from orz_ckpt.cluster.groups import Group, Located
from orz_ckpt.cluster.locate import Location, is_here
from orz_ckpt.cluster.verdict import NodeFinding, node_finding, taken
from orz_ckpt.disk.links import resolved
from orz_ckpt.manifest import MANIFEST_NAME, UnsafePathError
from orz_ckpt.node.pieces import STEP, LocatedPiece
from orz_ckpt.report.words import count, size
from orz_cli.errors import UsageError
from orz_cli.findings import Severity


@dataclass(slots=True)
class Task:
    """One checkpoint on its way."""

    group: Group
    records: Records
    plan: GroupPlan
    checked: Checked
    failed: bool = False
    committed: bool = False


def plan_tasks(fleet: Fleet, found: Location, dest: Path | None, findings: list[NodeFinding]) -> list[Task]:
    """Plan each checkpoint; what cannot be collected is told.

    Args:
        fleet: the nodes.
        found: what `locate` found there.
        dest: the run's folder on this machine; None where it is not on this machine.
        findings: what there is to tell is added.

    Raises:
        UsageError: `dest` lies inside a piece.
    """
    tasks = []
    for group in found.groups:
        for member in group.members:
            if dest is not None and is_here(member.piece):
                _refuse_inside(dest, member.piece)
        if all(member.piece.in_flight for member in group.members):
            message = f"{group.title} is a save that is going on, or was cut off; it was left where it is"
            findings.append(node_finding("in_flight", message, path=group.title, node=group.members[0].nodes[0]))
        elif len(group.attempts) <= 1 and group.files:
            task = _task(fleet, group, dest, findings)
            if task is not None:
                tasks.append(task)
    planned = {key_of(task, move) for task in tasks for move in task.checked.moves}
    return [*tasks, *_beside(fleet, found, planned, dest, findings)]


def _refuse_inside(dest: Path, piece: LocatedPiece) -> None:
    """Refuse a destination inside a piece, or behind a link that leads to it: what comes would be found there again."""
    path = Path(piece.path)
    behind = [
        resolved(link)
        for link in (path, *path.parents)
        if link != Path(piece.base) and link.is_relative_to(piece.base) and link.is_symlink()
    ]
    around = [path] if dest != path and dest.is_relative_to(path) else []
    around += [target for target in behind if resolved(dest).is_relative_to(target)]
    if around:
        raise UsageError(f"--to {dest} lies inside {around[0]}", remedy="give a folder outside of it")


def _beside(
    fleet: Fleet, found: Location, planned: set[str], dest: Path | None, findings: list[NodeFinding]
) -> Iterator[Task]:
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


def _task(fleet: Fleet, group: Group, dest: Path | None, findings: list[NodeFinding]) -> Task | None:
    records = records_of(fleet, group, findings) if group.kind == STEP else read_records([])
    broken = "take an older step, or remove the broken record if another node has the same"
    unusable = list(unusable_records(group, records, broken, findings))
    findings += unusable
    if any(entry.code == "manifest_newer" for entry in unusable):
        return None  # what it says of the files is not known, so nothing that arrives could be checked
    try:
        plan = plan_group(group, records.entries)
    except UnsafePathError as error:
        remedy = "do not load this checkpoint"
        findings.append(node_finding("path_escapes", str(error), remedy=remedy, path=group.title))
        return None
    while taken(findings, "collect_conflict", group.title):  # by `locate`, of the sizes
        pass  # all of it is told here
    conflicts = [*plan.conflicts, *(f"{name}: two records state different bytes" for name in records.disagreements)]
    for conflict in conflicts:
        remedy = "keep the right one: move the other away there, then collect again"
        findings.append(node_finding("collect_conflict", conflict, remedy=remedy, path=group.title))
    if conflicts:
        return None
    findings += differing(plan)
    if plan.left:
        listed = ", ".join(f"{origin.path} on {origin.node}" for origin in plan.left[:3])
        message = f"{count(len(plan.left), 'file')} that no record of the save names: {listed}"
        findings.append(node_finding("collect_left", message, path=group.title))
    task = Task(group=group, records=records, plan=plan, checked=check_plan(fleet, plan, dest))
    findings += task.checked.findings
    task.failed = any(entry.severity is Severity.ERROR for entry in task.checked.findings)
    in_the_way = _other_manifest(task, dest)
    if in_the_way is not None:
        findings.append(in_the_way)
        return None
    return task


def _other_manifest(task: Task, dest: Path | None) -> NodeFinding | None:
    """Return a finding if a committed step folder stands at the destination that is not all of this one."""
    if dest is None or task.group.kind != STEP:
        return None
    path = dest / task.group.rel / MANIFEST_NAME
    if not path.exists():
        return None
    extra = [file for file in task.plan.files if file.entry is None and not file.name.startswith(".orz/")]
    text = path.read_text(encoding="utf-8", errors="replace")
    merged = None if extra else merged_manifest(task.records, {})
    if merged is not None and merged[1] == text:
        return None
    message = f"{path.parent} is committed already, and its manifest is not that of all pieces together"
    remedy = f"collect to another folder: --to {dest}-collected; nothing there is ever replaced"
    return node_finding("collect_conflict", message, remedy=remedy, path=path)


def key_of(task: Task, move: Move) -> str:
    """Return the name of a file below the destination."""
    return f"{task.group.rel}/{move.file.name}".lstrip("/")


def lacking(task: Task, where: str, findings: list[NodeFinding]) -> list[NodeFinding] | None:
    """Return what a step folder lacks to be committed and nothing has told; None where it lacks nothing.

    Args:
        task: its files are at the destination.
        where: that is.
        findings: what was said before of a save without an end is taken out: it is told once.
    """
    found = []
    nodes = missing_nodes(task.records)
    if nodes:
        message = (
            f"{task.group.title}: of {', '.join(nodes)}, which took part in the save, there is no record on any node"
        )
        remedy = "start those nodes, then collect again: it goes on from here"
        found.append(node_finding("pieces_incomplete", message, remedy=remedy, path=where))
    if not nodes and task.group.complete is True:
        return None
    if not task.records.manifests and not task.records.unusable:  # why those cannot be used is told
        taken(findings, "uncommitted", task.group.title)
        message = "no node recorded what it saved: the save never came to its end"
        remedy = (
            "use an older step; or, once you know that these weights are whole, copy the folder of each model out of"
            " it, and describe the copy: orz ckpt manifest COPY"
        )
        found.append(node_finding("uncommitted", message, remedy=remedy, path=where))
    return found


def gathered(task: Task) -> Gathered:
    """Return a checkpoint as the result of the command lists it."""
    return Gathered(
        rel=task.group.rel,
        kind=task.group.kind,
        step=task.group.step,
        moves=task.checked.moves,
        complete=task.group.complete,
        committed=task.committed,
    )


def told(task: Task, where: str) -> NodeFinding:
    """Return what came of one checkpoint, which is at `where` now."""
    moves = task.checked.moves
    nodes = dict.fromkeys(move.origin.node for move in moves if not move.there)
    came = f"from {', '.join(nodes)}" if nodes else "all there already"
    nbytes = sum(move.file.size for move in moves)
    message = f"{count(len(moves), 'file')}, {size(nbytes)}, {came}{'; committed' if task.committed else ''}"
    return node_finding("collected", message, path=where)
