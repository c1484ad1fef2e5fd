"""Verify a checkpoint where it lies: each node what is on its own disk, and from here what they have together."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from orz_ckpt.cluster.agreement import Said, agreement, names_not_compared, not_compared
from orz_ckpt.cluster.collect.check import check_plan, differing, records_of, unusable_records
from orz_ckpt.cluster.collect.plan import plan_group
from orz_ckpt.cluster.collect.records import Records, read_records
from orz_ckpt.cluster.fleet import LONG_S, Answer, Fleet
from orz_ckpt.cluster.groups import Group, Located, newest_groups
from orz_ckpt.cluster.locate import locate
from orz_ckpt.cluster.located_findings import unreadable_manifests
from orz_ckpt.cluster.verdict import NodeFinding, node_finding, silent_nodes, taken
from orz_ckpt.cluster.verify_outcome import ClusterReport, VerifiedPiece
from orz_ckpt.findings import RULES, Level, conclude
from orz_ckpt.manifest import MANIFEST_NAME, PRIVATE_DIR, UnsafePathError
from orz_ckpt.node.pieces import STEP, missing_names
from orz_ckpt.node.scan import BUDGET_S
from orz_ckpt.watch import Progress, Silent
from orz_cli.findings import Severity, Status

_SMALL_BYTES: Final = 16 * 1024 * 1024
"""Files of one name on several nodes are compared at every level up to this size: configuration, tokenizers."""


@dataclass(slots=True)
class _Task:
    """One checkpoint: its pieces, and what was found."""

    group: Group
    records: Records
    findings: list[NodeFinding]
    unread: list[str] = field(default_factory=list)
    """Files that several nodes have, and whose bytes this level does not compare."""


def verify_nodes(
    fleet: Fleet,
    run: str,
    *,
    level: Level = Level.FULL,
    inert: frozenset[str] = frozenset(),
    sample: float = 0.01,
    require_manifest: bool = False,
    budget_s: float = BUDGET_S,
    progress: Progress | None = None,
) -> ClusterReport:
    """Let every node of `fleet` verify what it has of `run`, and judge what all have together.

    As on one disk the newest step decides. A node that gives no answer leaves the verdict open: it is never a pass.

    Args:
        fleet: the nodes.
        run: a run or a checkpoint, as the user or a configuration spells it.
        level: how much is read.
        inert: names that a pickle may call beside the known ones; nothing is ever called.
        sample: share of the bytes that `Level.SAMPLE` reads.
        require_manifest: count a foreign folder without manifest as failed.
        budget_s: how long a node may search.
        progress: told of bytes, piece by piece.
    """
    begin = time.perf_counter()
    found = locate(fleet, [run], budget_s=budget_s)
    findings: list[NodeFinding] = list(found.findings)
    groups = [] if found.everywhere else [group for group in found.groups if not _in_flight(group)]
    if not found.everywhere:
        findings += [_flying(group) for group in found.groups if _in_flight(group)]
    newest = newest_groups(groups)
    tasks = [_task(fleet, group, level, findings) for group in groups]
    options = {
        "level": level.value,
        "inert": sorted(inert),
        "sample": sample,
        "require_manifest": require_manifest,
    }
    answers, silent = _ask(fleet, tasks, options, run, progress or Silent())
    findings += silent
    pieces = []
    good = ""
    for task in tasks:
        members = [member for member in task.group.members if id(member) in answers]
        mine = [answers[id(member)][1] for member in members]
        said = [
            Said.of(piece.node, member.piece.files, answers[id(member)][0])
            for member, piece in zip(members, mine, strict=True)
        ]
        task.findings += agreement(task.group, said)
        pieces += mine
        if _all_damaged(task.group, mine):
            taken(findings, "pieces_incomplete", task.group.title)
        both = [*task.findings, *(entry for piece in mine for entry in piece.findings)]
        if conclude(both) is Status.OK:
            both += [*not_compared(task.group, said), *names_not_compared(task.group, task.unread)]
        if len(mine) == len(task.group.members) and _is_good(task.group, both, findings):
            good = task.group.title
        once = _once(both, task.group, findings)
        findings += once if task.group in newest else [entry for one in once for entry in _milder(one)]
    if newest and good not in {group.title for group in newest}:
        message = f"the newest good checkpoint is {good}" if good else "no checkpoint of this run is good"
        findings.append(node_finding("newest_good", message, path=good or run))
    return ClusterReport(
        path=run,
        level=level,
        nodes=[node.name for node in fleet.nodes],
        pieces=pieces,
        findings=findings,
        newest_good=good,
        seconds=time.perf_counter() - begin,
    )


def _in_flight(group: Group) -> bool:
    return all(member.piece.in_flight for member in group.members)


def _flying(group: Group) -> NodeFinding:
    message = f"{group.title} is a save that is going on, or was cut off; it was not verified"
    return node_finding("in_flight", message, path=group.title, node=group.members[0].nodes[0])


def _task(fleet: Fleet, group: Group, level: Level, findings: list[NodeFinding]) -> _Task:
    """Find out what records say of one checkpoint, and whether its copies agree."""
    records = records_of(fleet, group, findings) if group.kind == STEP else read_records([])
    noted = list(unusable_records(group, records, "take an older step", findings))
    noted += unreadable_manifests(group, findings)
    whole = all(_is_whole(group, member) for member in group.members)
    if group.kind == STEP and all(_is_uncommitted(member) for member in group.members):
        message = f"no node has a {MANIFEST_NAME} of it: the save never came to its end"
        found = node_finding("uncommitted", message, remedy="use an older checkpoint", path=group.title)
        noted.append(replace(taken(findings, found.code, found.path) or found, severity=found.severity))
    if whole and group.alike:  # its node says what it lacks
        for code in ("copies_missing", "pieces_incomplete"):
            taken(findings, code, group.title)
    try:
        plan = plan_group(group, records.entries)
    except UnsafePathError as error:
        remedy = "do not load this checkpoint"
        noted.append(node_finding("path_escapes", str(error), remedy=remedy, path=group.title))
        return _Task(group=group, records=records, findings=noted)
    while taken(findings, "collect_conflict", group.title):  # by `locate`, of the sizes
        pass  # all of it is told here
    conflicts = [*plan.conflicts, *(f"{name}: two records state different bytes" for name in records.disagreements)]
    for conflict in conflicts:
        remedy = "see which one is of the save, and move the other away"
        noted.append(node_finding("collect_conflict", conflict, remedy=remedy, path=group.title))
    noted += differing(plan)
    # Of a step folder the records say which bytes are right, and each node compares with them.
    twice = [file for file in plan.files if len(file.origins) > 1 and file.entry is None]
    compared = tuple(file for file in twice if level.reads_all or file.size <= _SMALL_BYTES)
    if compared:
        noted += check_plan(fleet, replace(plan, files=compared), None).findings
    if not whole and len(group.members) > 1:
        nodes = ", ".join(group.nodes)
        message = f"its files lie on {nodes}; each was verified there, by itself"
        remedy = "orz ckpt collect, then orz ckpt verify, to see how shards fit together"
        noted.append(node_finding("verified_apart", message, remedy=remedy, path=group.title))
    unread = [file.name for file in twice if file.decides and file not in compared]
    return _Task(group=group, records=records, findings=noted, unread=unread)


def _is_good(group: Group, told: Sequence[NodeFinding], before: Sequence[NodeFinding]) -> bool:
    """Return whether nothing speaks against a checkpoint, and none of its weights may be missing.

    Args:
        group: the checkpoint.
        told: findings about all of it, and of its nodes.
        before: findings of the search, among others. That an older step does not decide made warnings of their errors.
    """
    alone = group.alike and _is_whole(group, group.members[0])  # its node says what it lacks
    doubted = any(RULES[entry.code].severity is Severity.ERROR for entry in before if entry.path == group.title)
    unmixed = len(group.attempts) <= 1
    return conclude(told) is Status.OK and not doubted and unmixed and (alone or not group.missing)


def _is_whole(group: Group, member: Located) -> bool:
    """Return whether a piece is to be verified as a checkpoint: it is one, or it is all there is and may be one.

    A copy of all there is on another node changes nothing; whether it is one is for `check_plan` to see.
    """
    piece = member.piece
    wants = piece.wants if group.kind == STEP else group.wants  # of a step folder the manifest says what is all
    if not group.alike and missing_names(list(wants or ()), piece.files):
        return False  # though it has a copy of all, or all that its node knows of, it is not all
    if piece.complete is None:
        return group.alike
    return piece.complete and (piece.kind != STEP or piece.committed is True)


def _all_damaged(group: Group, pieces: Sequence[VerifiedPiece]) -> bool:
    """Return whether all that a checkpoint lacks is there, and damaged, as its nodes say."""
    damaged = {entry.path for piece in pieces for entry in piece.findings if entry.severity is Severity.ERROR}
    return all(any(f"{piece.path}/{name}" in damaged for piece in pieces) for name in group.missing)


def _is_uncommitted(member: Located) -> bool:
    """Return whether a piece has no manifest; why one that is there cannot be used is told by itself."""
    return member.piece.committed is False and not member.piece.problem


def _once(entries: Sequence[NodeFinding], group: Group, before: Sequence[NodeFinding]) -> list[NodeFinding]:
    """Return findings about a checkpoint without what its node says of manifest or records, where that was said of all.

    Args:
        entries: about all of it, and of its nodes.
        group: the checkpoint.
        before: findings about all of it, too, among others.
    """
    said = {entry.code for entry in (*entries, *before) if entry.path == group.title}
    ours = tuple(f"{member.piece.path}/{name}" for member in group.members for name in (MANIFEST_NAME, PRIVATE_DIR))
    return [entry for entry in entries if entry.code not in said or not entry.path.startswith(ours)]


def _ask(
    fleet: Fleet, tasks: Sequence[_Task], options: Mapping[str, Any], run: str, progress: Progress
) -> tuple[dict[int, tuple[Mapping[str, Any], VerifiedPiece]], list[NodeFinding]]:
    """Let all nodes verify at once; a disk that several see is read by the one that has the least to do.

    Each node is asked for one piece after another, so that what came back tells how far they are.
    """
    mine: dict[str, list[tuple[_Task, Located]]] = {}
    for task in tasks:
        for member in task.group.members:
            node = min(member.nodes, key=lambda name: len(mine.get(name, ())))
            mine.setdefault(node, []).append((task, member))
    progress.add_total(sum(_bytes(member) for pairs in mine.values() for _, member in pairs))
    answers: dict[int, tuple[Mapping[str, Any], VerifiedPiece]] = {}
    silent: dict[str, Answer] = {}
    for turn in range(max(map(len, mine.values()), default=0)):
        asked = {node: pairs[turn] for node, pairs in mine.items() if turn < len(pairs) and node not in silent}
        questions = {node: {"pieces": [_question(*pair)], **options} for node, pair in asked.items()}
        said = fleet.ask("verify", questions, timeout_s=LONG_S) if questions else {}
        for node, (task, member) in asked.items():
            if said[node].trouble is not None:
                silent[node] = said[node]  # and is not asked again
                continue
            (value,) = said[node].value
            answers[id(member)] = (value, _verified(node, task.group, member, value))
            progress.advance(_bytes(member))
    return answers, silent_nodes(silent, run)


def _question(task: _Task, member: Located) -> dict[str, Any]:
    """Return one of the `pieces` that `orz_ckpt.node.verifying` is asked for."""
    return {
        "path": member.piece.path,
        "whole": _is_whole(task.group, member),
        "entries": {
            name: [entry.size, entry.algo, entry.digest]
            for name, entry in task.records.entries.items()
            if name in member.piece.files
        },
    }


def _bytes(member: Located) -> int:
    return sum(member.piece.files.values())


def _verified(node: str, group: Group, member: Located, value: Mapping[str, Any]) -> VerifiedPiece:
    return VerifiedPiece(
        node=node,
        nodes=member.nodes,
        path=member.piece.path,
        rel=group.rel,
        kind=group.kind,
        step=group.step,
        ranks=tuple(member.piece.ranks),
        files=int(value["files"]),
        bytes=int(value["bytes"]),
        tensors=int(value["tensors"]),
        whole=_is_whole(group, member),
        findings=tuple(_finding(node, entry) for entry in value["findings"]),
    )


def _finding(node: str, entry: Mapping[str, Any]) -> NodeFinding:
    """Return a node's finding as one of ours; a code that this version does not know is one that cannot be judged."""
    if entry["code"] not in RULES:
        message = f"{node} found {entry['code']!r}, which this version does not know: {entry['message']}"
        remedy = "install the same version of orz-ckpt on all nodes"
        return node_finding("node_failed", message, remedy=remedy, path=entry["path"], node=node)
    return NodeFinding(
        code=str(entry["code"]),
        severity=Severity(entry["severity"]),
        message=f"on {node}: {entry['message']}",
        remedy=str(entry["remedy"]),
        path=str(entry["path"]),
        tensor=str(entry["tensor"]),
        status=Status(entry["status"]),
        node=node,
    )


def _milder(entry: NodeFinding) -> list[NodeFinding]:
    """Return a finding about an older step, which no longer decides: errors as warnings, and no notes."""
    if entry.severity is Severity.INFO:
        return []
    decides = entry.severity is Severity.ERROR and entry.status is not Status.REFUSED
    return [replace(entry, severity=Severity.WARN) if decides else entry]
