"""What the located pieces of a run lack, as findings: pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from orz_ckpt.cluster.groups import Group, Located, newest_groups
from orz_ckpt.cluster.verdict import NodeFinding, node_finding
from orz_ckpt.disk.mounts import in_ray_session
from orz_ckpt.node.pieces import STEP
from orz_ckpt.report.words import count
from orz_cli.findings import Severity, Status

_MAX_NAMES: Final = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Search:
    """What was asked of the nodes, and how far they came."""

    runs: Sequence[str]
    everywhere: bool
    """Whether all likely folders were searched, whatever the runs are called."""
    alone: bool
    """Whether only this machine was asked."""
    cut: Sequence[str]
    """Where a search ended early, and why."""
    silent: bool
    """Whether a node gave no answer."""

    @property
    def subject(self) -> str:
        """What was asked for."""
        return ", ".join(self.runs) or "all likely folders"

    @property
    def elsewhere(self) -> str:
        """The command that asks the other nodes, where only this machine was asked."""
        words = ["orz", "ckpt", "locate", *map(quoted, self.runs), "--ray"]
        return f"{' '.join(words)}    # on a node of the cluster, or --hosts"


def judge(groups: Sequence[Group], search: Search) -> list[NodeFinding]:
    """Say what the groups lack. Where a node is silent or a search was cut short, nothing is sure to be missing."""
    findings: list[NodeFinding] = []
    weights = [group for group in groups if group.weights]
    wanted = [] if search.everywhere and search.runs else weights
    newest = newest_groups(wanted)
    if not wanted:
        findings.append(_nothing(groups, weights, search))
    for group in wanted:
        findings += _of_group(group, search, decides=not search.everywhere and group in newest)
    findings += [_without_weights(group, search) for group in newer_stubs(groups, search)]
    if search.silent or search.cut:
        findings = [replace(entry, status=Status.INCONCLUSIVE) for entry in findings]
    if search.cut:
        done = bool(newest) and all(group.complete for group in newest)
        remedy = "give it longer: --seconds 120"
        entry = node_finding("scan_cut_short", "; ".join(search.cut), remedy=remedy, path=search.subject)
        findings.append(replace(entry, severity=Severity.WARN) if done else entry)
    return [*findings, *_in_ray_sessions(groups)]


def newer_stubs(groups: Sequence[Group], search: Search) -> list[Group]:
    """Return the step folders that are newer than all weights and hold none, nor a word of where they are.

    So it looks where the run was driven from, and its weights went to another node or were never written.
    """
    newest = newest_groups([group for group in groups if group.weights])
    if search.everywhere or not newest:
        return []
    last = -1 if newest[0].step is None else newest[0].step
    return [group for group in groups if _is_stub(group) and group.step is not None and group.step > last]


def quoted(path: str) -> str:
    """Return a path as a word of a command, and never as an option of it."""
    return shlex.quote(path if not path.startswith("-") else f"./{path}")


def of_that_name(left: Sequence[Located], subject: str) -> Iterator[NodeFinding]:
    """Say which folders of the run's name were left out."""
    bases = dict.fromkeys((member.nodes[0], member.piece.base) for member in left)
    for node, base in list(bases)[:_MAX_NAMES]:
        message = f"on {node} {base} has the same name, and is not the run at that path: it was left out"
        yield node_finding("same_name", message, remedy="name it to ask for it", path=subject, node=node)


def _is_stub(group: Group) -> bool:
    settled = not all(member.piece.in_flight for member in group.members)
    committed = any(member.piece.committed for member in group.members)
    return group.kind == STEP and settled and not committed and not group.weights


def _nothing(groups: Sequence[Group], weights: Sequence[Group], search: Search) -> NodeFinding:
    verb = "is" if len(weights) == 1 else "are"
    others = f"; {count(len(weights), 'other checkpoint')} {verb} listed" if weights else ""
    empty = [member.piece.path for group in groups if not group.weights for member in group.members]
    stubs = f"; {empty[-1]} is there and holds none" if empty and not search.everywhere else ""
    message = f"no node has weights of {search.subject}{stubs}{others}"
    remedy = "ask the nodes that took part: --ray or --hosts; look by another name, or without one: orz ckpt locate"
    return node_finding("nothing_located", message, remedy=remedy, path=search.subject)


def _of_group(group: Group, search: Search, *, decides: bool) -> Iterator[NodeFinding]:
    """Say what one checkpoint lacks: an error if it decides, being the newest of the run, and else a warning."""
    entry = None
    if group.complete is False:
        entry = _incomplete(group, search)
    elif group.complete is None and group.kind == STEP:
        message = f"{group.title}: no node has a manifest or a record of this save, so nothing says if this is all"
        entry = node_finding("uncommitted", message, remedy="take an older step", path=group.title)
    if entry is not None:
        yield entry if decides else replace(entry, severity=Severity.WARN)
    if len(group.attempts) > 1:
        message = f"{group.title}: its pieces come from different saves: {', '.join(group.attempts)}"
        remedy = "take an older step; these pieces do not belong together"
        yield node_finding("saves_mixed", message, remedy=remedy, path=group.title)


def _without_weights(group: Group, search: Search) -> NodeFinding:
    listed = _listed(sorted(group.files))
    held = f"holds {count(len(group.files), 'file')} and no weights: {listed}" if listed else "is empty"
    who = "this machine has" if search.alone else "any node has"
    message = f"{group.title} is newer than all weights that {who}, has no manifest, and {held}"
    return node_finding("uncommitted", message, remedy=_others_or_older(search), path=group.title)


def _incomplete(group: Group, search: Search) -> NodeFinding:
    where = "on this machine" if search.alone else "that no node has"
    message = f"{group.title} lacks {count(len(group.missing), 'file')} {where}: {_listed(group.missing)}"
    return node_finding("pieces_incomplete", message, remedy=_others_or_older(search), path=group.title)


def _others_or_older(search: Search) -> str:
    if search.alone:
        return f"take an older step, or ask the nodes that took part: {search.elsewhere}"
    return "start the nodes that took part and are down, then locate again; or take an older step"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_MAX_NAMES]) + (", ..." if len(names) > _MAX_NAMES else "")


def _in_ray_sessions(groups: Sequence[Group]) -> Iterator[NodeFinding]:
    for group in groups:
        for member in group.members:
            if in_ray_session(member.piece.path):
                message = f"on {member.nodes[0]} {member.piece.path} is a folder that Ray made and removes again"
                remedy = "collect it now, before the next job or restart"
                path = member.piece.path
                yield node_finding("piece_in_ray_session", message, remedy=remedy, path=path, node=member.nodes[0])
