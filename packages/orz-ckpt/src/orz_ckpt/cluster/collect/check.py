"""Which copy of each file to take, and what is at the destination already. Nothing is written here."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from orz_ckpt.checks.manifest import code_of, remedy_of
from orz_ckpt.cluster.collect.outcome import Move
from orz_ckpt.cluster.collect.plan import GroupPlan, Origin, PlannedFile
from orz_ckpt.cluster.collect.records import Records, read_records, say_the_same
from orz_ckpt.cluster.fleet import LONG_S, Answer, Fleet
from orz_ckpt.cluster.groups import Group, is_manifest
from orz_ckpt.cluster.verdict import NodeFinding, node_finding, silent_nodes, taken
from orz_ckpt.disk.reading import read_once
from orz_ckpt.findings import RULES
from orz_ckpt.manifest import MANIFEST_NAME
from orz_ckpt.node.files import FileState
from orz_ckpt.node.wire import from_wire
from orz_cli.findings import Severity

_WHICH = "the first, where the destination has none"
"""Of different copies of a file that no weights depend on."""


@dataclass(slots=True)
class Checked:
    """What is to be done for one checkpoint."""

    moves: list[Move]
    states: dict[Origin, FileState]
    findings: list[NodeFinding]


def check_plan(fleet: Fleet, plan: GroupPlan, dest: Path | None) -> Checked:
    """Compare copies with each other and with what is at `dest`, by digest wherever two files have one name.

    Args:
        fleet: the nodes.
        plan: the files of one checkpoint.
        dest: the folder that its own folder will lie in; None where nothing is there.
    """
    checked = Checked(moves=[], states={}, findings=[])
    folder = None if dest is None else dest / plan.group.rel
    states, trouble = _states(fleet, [origin for file in plan.files for origin in file.origins])
    checked.findings += silent_nodes(trouble, plan.group.title)
    checked.states = states
    twice = [
        file for file in plan.files if len(file.origins) > 1 or (folder is not None and _exists(folder / file.name))
    ]
    digests, trouble = _digests(fleet, [origin for file in twice for origin in file.origins if origin in states])
    checked.findings += silent_nodes(trouble, plan.group.title)
    for file in plan.files:
        here = [origin for origin in file.origins if origin in states]
        if not here:
            if not trouble:
                checked.findings.append(_vanished(file))
            continue
        if is_manifest(file.name) and _say_the_same(fleet, here, digests):
            here = here[:1]
        origin, finding = _choose(file, here, digests)
        if finding is not None:
            checked.findings.append(finding)
        if origin is None:
            continue
        there, finding = False, None
        if folder is not None:
            digest = digests.get(origin, "")
            there, finding = _at_destination(folder / file.name, file, origin, states[origin], digest)
            if finding is not None and is_manifest(file.name) and _says_that(fleet, folder / file.name, origin):
                there, finding = True, None
        if finding is not None:
            checked.findings.append(finding)  # what is at the destination stays
        else:
            checked.moves.append(Move(file=file, origin=origin, there=there))
    return checked


def records_of(fleet: Fleet, group: Group, findings: list[NodeFinding]) -> Records:
    """Ask the nodes of one checkpoint what was recorded of it; who does not answer is added to `findings`."""
    texts: list[tuple[str, Mapping[str, str]]] = []
    for member in group.members:
        node = member.nodes[0]
        said = fleet.ask("records", {node: {"folder": member.piece.path}})
        findings += silent_nodes({name: answer for name, answer in said.items() if answer.trouble}, group.title)
        texts += [(name, answer.value) for name, answer in said.items() if answer.trouble is None]
    return read_records(texts)


def unusable_records(group: Group, records: Records, broken: str, findings: list[NodeFinding]) -> Iterator[NodeFinding]:
    """Yield a finding for each manifest or record of a checkpoint that cannot be used.

    Args:
        group: the checkpoint.
        records: what its nodes recorded.
        broken: what to do about one that is cut off or wrong.
        findings: what was said before of one of them is taken out: it is told once.
    """
    for bad in records.unusable:
        code, node = code_of(bad.error), bad.node
        said = taken(findings, code, group.title, node=node)
        if said is None:
            said = node_finding(code, f"{group.title} on {node}: {bad.error}", path=group.title, node=node)
        yield replace(said, severity=RULES[code].severity, remedy=remedy_of(code, broken))


def _choose(
    file: PlannedFile, origins: Sequence[Origin], digests: Mapping[Origin, str]
) -> tuple[Origin | None, NodeFinding | None]:
    """Return the copy to take: any of equal ones; of different ones that which the record of the save names."""
    known = {origin: digests[origin] for origin in origins if origin in digests}
    if len(set(known.values())) <= 1:
        return origins[0], None
    listed = "; ".join(f"{digest[:16]}... on {origin.node} ({origin.path})" for origin, digest in known.items())
    message = f"{file.name} has different bytes on different nodes: {listed}"
    remedy = "keep the right one: move the other away there, then collect again"
    finding = node_finding("collect_conflict", message, remedy=remedy, path=file.name)
    right = [origin for origin, digest in known.items() if file.entry is not None and digest == file.entry.digest]
    if right:
        taken = f"{message}; the one on {right[0].node} is what was saved, and was taken"
        return right[0], replace(finding, message=taken, severity=Severity.WARN)
    if not file.decides:
        taken = f"{message}; no weights depend on that: `orz ckpt collect` takes {_WHICH}"
        return origins[0], replace(finding, message=taken, severity=Severity.WARN)
    return None, finding


def differing(plan: GroupPlan) -> list[NodeFinding]:
    """Say which files that the checkpoint does not depend on have other sizes on other nodes."""
    remedy = "to have another one, move the first away there"
    found = [
        node_finding(
            "collect_conflict",
            f"{one}; no weights depend on that: `orz ckpt collect` takes {_WHICH}",
            remedy=remedy,
            path=plan.group.title,
        )
        for one in plan.differing
    ]
    return [replace(entry, severity=Severity.WARN) for entry in found]


def _say_the_same(fleet: Fleet, origins: Sequence[Origin], digests: Mapping[Origin, str]) -> bool:
    """Return whether manifests with different bytes, as each node wrote one, say the same of the files."""
    if len({digests[origin] for origin in origins if origin in digests}) <= 1:
        return False  # their bytes say it
    return say_the_same(_manifest(fleet, origin) for origin in origins)


def _says_that(fleet: Fleet, manifest: Path, origin: Origin) -> bool:
    """Return whether a manifest at the destination says of the files what a node's does."""
    try:
        here = manifest.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return say_the_same([here, _manifest(fleet, origin)])


def _manifest(fleet: Fleet, origin: Origin) -> str:
    """Return the text of a manifest; an empty one, which is none, where its node does not give it."""
    folder = origin.path.removesuffix(f"/{MANIFEST_NAME}")
    said = fleet.ask("records", {origin.node: {"folder": folder}})[origin.node]
    return "" if said.trouble is not None else str(said.value.get(MANIFEST_NAME, ""))


def _at_destination(
    final: Path, file: PlannedFile, origin: Origin, state: FileState, digest: str
) -> tuple[bool, NodeFinding | None]:
    """Return whether `final` is this very file or has the same bytes; a finding if it is another one."""
    try:
        status = os.stat(final, follow_symlinks=False)  # noqa: PTH116  links are not followed
    except (FileNotFoundError, NotADirectoryError):
        return False, None
    if stat.S_ISREG(status.st_mode) and status.st_size == state.size:
        if (status.st_ino, status.st_mtime_ns) == (state.inode, state.mtime_ns) and str(final) == origin.path:
            return True, None
        if read_once(final).digest == digest:
            return True, None
    message = f"{final} is there already, and is not what {origin.node} has at {origin.path} ({file.size:,} bytes)"
    if stat.S_ISREG(status.st_mode) and not file.decides:
        remedy = "to have the other one, copy it to another place; nothing at the destination is ever replaced"
        message += "; it stays: no weights depend on it"
        found = node_finding("collect_conflict", message, remedy=remedy, path=final, node=origin.node)
        return False, replace(found, severity=Severity.WARN)
    remedy = "collect to another folder; nothing there is ever replaced"
    return False, node_finding("collect_conflict", message, remedy=remedy, path=final, node=origin.node)


def _vanished(file: PlannedFile) -> NodeFinding:
    listed = ", ".join(f"{origin.path} on {origin.node}" for origin in file.origins)
    message = f"{listed} was there a moment ago, and is gone"
    return node_finding("file_missing", message, remedy="locate again", path=file.name)


def _states(fleet: Fleet, origins: Sequence[Origin]) -> tuple[dict[Origin, FileState], dict[str, Answer]]:
    said = _ask_paths(fleet, "states", origins)
    found = {
        origin: from_wire(FileState, said[origin.node].value[origin.path])
        for origin in origins
        if said[origin.node].trouble is None and origin.path in said[origin.node].value
    }
    return found, {name: answer for name, answer in said.items() if answer.trouble is not None}


def _digests(fleet: Fleet, origins: Sequence[Origin]) -> tuple[dict[Origin, str], dict[str, Answer]]:
    said = _ask_paths(fleet, "digests", origins)
    found = {
        origin: str(said[origin.node].value[origin.path]) for origin in origins if said[origin.node].trouble is None
    }
    return found, {name: answer for name, answer in said.items() if answer.trouble is not None}


def _ask_paths(fleet: Fleet, call: str, origins: Sequence[Origin]) -> dict[str, Answer]:
    paths: dict[str, list[str]] = {}
    for origin in origins:
        paths.setdefault(origin.node, []).append(origin.path)
    return fleet.ask(call, {node: {"paths": mine} for node, mine in paths.items()}, timeout_s=LONG_S)


def _exists(path: Path) -> bool:
    return path.is_symlink() or path.exists()
