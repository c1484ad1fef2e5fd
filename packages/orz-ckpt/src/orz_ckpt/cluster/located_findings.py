"""What the located pieces of a run lack, as findings: pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from orz_ckpt.checks.manifest import remedy_of
from orz_ckpt.cluster.conflicts import conflict, differing
from orz_ckpt.cluster.groups import Group, Located, newest_groups
from orz_ckpt.cluster.verdict import NodeFinding, node_finding
from orz_ckpt.disk.mounts import in_ray_session
from orz_ckpt.node.pieces import STEP, is_in
from orz_ckpt.node.scan import BUDGET_S
from orz_ckpt.node.scanned import Unread
from orz_ckpt.quoting import shell_path
from orz_ckpt.report.words import count
from orz_ckpt.unfinished import COLLECTING
from orz_cli.findings import Severity, Status

_MAX_SEARCH_S: Final = 3600.0
_LONGER_S: Final = 120.0
_LOCATE: Final = "orz ckpt locate"
_MAX_NAMES: Final = 5
_READABLE: Final = "ask as the user who wrote it, or let this one read it; then locate again"


@dataclass(frozen=True, kw_only=True, slots=True)
class Search:
    """What was asked of the nodes, and how far they came."""

    runs: Sequence[str]
    everywhere: bool
    """Whether all likely folders were searched, whatever the runs are called."""
    alone: bool
    """Whether only this machine was asked."""
    flags: str
    """Of a command that asks the same nodes; empty for this machine."""
    cut: Sequence[str]
    """Where a search ended early, and why."""
    silent: bool
    """Whether a node gave no answer."""
    begun: str = ""
    """The command that goes on with bringing it to this machine, where that was begun."""
    unread: Mapping[str, Sequence[Unread]] = field(default_factory=dict)
    """By node: what could not be looked at of what was asked for."""
    passed: Sequence[str] = ()
    """What was left out below what was asked for: links, say, or deep folders."""
    budget_s: float = BUDGET_S
    """How long a node could search."""

    @property
    def subject(self) -> str:
        """What was asked for."""
        return ", ".join(self.runs) or "all likely folders"

    @property
    def options(self) -> str:
        """What to add to a printed command so that it asks the same nodes and lets them search as long."""
        return f"{self._time} {self.flags}".strip()

    @property
    def listing(self) -> str:
        """The command that lists all weights on the same nodes."""
        return f"{_LOCATE} {self.options}".rstrip()

    @property
    def longer(self) -> str:
        """The command that searches longer for the same; empty where this was the longest search."""
        if self.budget_s >= _MAX_SEARCH_S:
            return ""
        seconds = min(_MAX_SEARCH_S, max(_LONGER_S, 2 * self.budget_s))
        words = [_LOCATE, *map(shell_path, self.runs), f"--seconds {seconds:g}", self.flags]
        return " ".join(words).rstrip()

    @property
    def elsewhere(self) -> str:
        """The command that asks the other nodes, where only this machine was asked."""
        words = [_LOCATE, *map(shell_path, self.runs), self._time, "--ray"]
        return f"{' '.join(filter(None, words))}    # on a node of the cluster, or --hosts"

    @property
    def _time(self) -> str:
        return "" if self.budget_s == BUDGET_S else f"--seconds {self.budget_s:g}"


def judge(groups: Sequence[Group], search: Search) -> list[NodeFinding]:
    """Say what the groups lack. Where a node did not look everywhere, nothing is sure to be missing."""
    findings: list[NodeFinding] = []
    weights = [group for group in groups if group.weights]
    wanted = [] if search.everywhere and search.runs else weights
    newest = newest_groups(wanted)
    unread = list(_unread(search, wanted, newest))
    if not wanted and not unread:
        findings.append(_nothing(groups, weights, search))
    for group in wanted:
        findings += _of_group(group, search, decides=not search.everywhere and group in newest)
    for group in newer_stubs(groups, search):
        findings.append(_unusable_manifest(group) or _without_weights(group, search))
    if search.silent or search.cut or hides_weights(unread):
        findings = [replace(entry, status=Status.INCONCLUSIVE) for entry in findings]
    findings += unread
    if search.cut:
        message = f"{'; '.join(search.cut)}: newer weights may lie where the search did not come"
        longer = f", or give the search longer (collect and verify take --seconds, too): {search.longer}"
        remedy = f"name a folder nearer to the weights{longer if search.longer else ''}"
        findings.append(node_finding("scan_cut_short", message, remedy=remedy, path=search.subject))
    return [*findings, *_in_ray_sessions(groups)]


def hides_weights(findings: Sequence[NodeFinding]) -> bool:
    """Return whether the newest weights may lie where a node could not look."""
    return any(entry.code == "unreadable" and entry.severity is Severity.ERROR for entry in findings)


def newer_stubs(groups: Sequence[Group], search: Search) -> list[Group]:
    """Return the step folders that are newer than all weights and hold none, nor a word of where they are.

    So it looks where the run was driven from, and its weights went to another node or were never written.
    """
    newest = newest_groups([group for group in groups if group.weights])
    if search.everywhere or not newest:
        return []
    last = -1 if newest[0].step is None else newest[0].step
    return [group for group in groups if _is_stub(group) and group.step is not None and group.step > last]


def of_that_name(left: Sequence[Located], subject: str) -> Iterator[NodeFinding]:
    """Say which folders of the run's name were left out."""
    bases = dict.fromkeys((member.nodes[0], member.piece.base) for member in left)
    for node, base in list(bases)[:_MAX_NAMES]:
        message = f"on {node} {base} has the same name, and is not the run at that path: it was left out"
        yield node_finding("same_name", message, remedy="name it to ask for it", path=subject, node=node)


def unreadable_manifests(group: Group, findings: Sequence[NodeFinding]) -> Iterator[NodeFinding]:
    """Say which nodes' manifests of a checkpoint could not be read, but those of which `findings` tell already."""
    for member in group.members:
        if member.piece.problem in {"unreadable", "not_judged"}:
            found = _unusable(group, member)
            if not any(
                (entry.code, entry.path, entry.node) == (found.code, found.path, found.node) for entry in findings
            ):
                yield found


def _is_stub(group: Group) -> bool:
    settled = not all(member.piece.in_flight for member in group.members)
    committed = any(member.piece.committed for member in group.members)
    return group.kind == STEP and settled and not committed and not group.weights


def _nothing(groups: Sequence[Group], weights: Sequence[Group], search: Search) -> NodeFinding:
    verb = "is" if len(weights) == 1 else "are"
    others = f"; {count(len(weights), 'other checkpoint')} {verb} listed by: {search.listing}" if weights else ""
    empty = [member.piece.path for group in groups if not group.weights for member in group.members]
    stubs = f"; {empty[-1]} is there and holds none" if empty and not search.everywhere else ""
    begun = f"; {COLLECTING}" if search.begun else ""
    passed = f"; not looked at: {_listed(search.passed)}" if search.passed else ""
    message = f"no node has weights of {search.subject}{stubs}{passed}{others}{begun}"
    if search.begun:
        remedy = f"go on with it: {search.begun}"
        return node_finding("nothing_located", message, remedy=remedy, path=search.subject)
    remedy = f"{_other_nodes(search)}; look by another name, or without one: {search.listing}"
    return node_finding("nothing_located", message, remedy=remedy, path=search.subject)


def _of_group(group: Group, search: Search, *, decides: bool) -> Iterator[NodeFinding]:
    """Say what one checkpoint lacks: an error if it decides, being the newest of the run, and else a warning."""
    unusable = _unusable_manifest(group)
    entry = None
    if group.complete is False:
        entry = _incomplete(group, search)
    elif unusable is not None:
        entry = unusable
    elif group.complete is None and group.kind == STEP:
        message = f"{group.title}: no node has a manifest or a record of this save, so nothing says if this is all"
        entry = node_finding("uncommitted", message, remedy="take an older step", path=group.title)
    elif group.missing:
        entry = _perhaps_complete(group, search)
    elif group.absent:
        entry = _copies_missing(group, search)
    if entry is not None:
        yield entry if decides else replace(entry, severity=Severity.WARN)
    if group.conflicts:
        entry = conflict(group)
        yield entry if decides else replace(entry, severity=Severity.WARN)
    if group.differing:
        yield differing(group)
    if len(group.attempts) > 1:
        message = f"{group.title}: its pieces come from different saves: {', '.join(group.attempts)}"
        remedy = "take an older step; these pieces do not belong together"
        yield node_finding("saves_mixed", message, remedy=remedy, path=group.title)


def _unusable_manifest(group: Group) -> NodeFinding | None:
    """Say why a manifest cannot be used, if one is there and no node has one that can."""
    member = next((member for member in group.members if member.piece.problem), None)
    if member is None or any(member.piece.committed for member in group.members):
        return None
    return _unusable(group, member)


def _unusable(group: Group, member: Located) -> NodeFinding:
    code, node = member.piece.problem, member.nodes[0]
    message = f"{group.title} on {node}: {member.piece.note}"
    remedy = _READABLE if code == "unreadable" else remedy_of(code, "take an older step")
    if code == "not_judged":
        command = f"orz ckpt verify {shell_path(member.piece.path)}"
        remedy = f"see there what verify says of it: {command}; or take an older step"
    return node_finding(code, message, remedy=remedy, path=group.title, node=node)


def _unread(search: Search, groups: Sequence[Group], newest: Sequence[Group]) -> Iterator[NodeFinding]:
    """Say what could not be looked at: an error, but of a step that is older than weights that were found.

    Of what lies behind a dead link nothing is hidden where nodes that have the disk show all of it.
    """
    last = newest[0].step if newest else None
    shown = [member.piece.path for group in groups if group.complete for member in group.members]
    for node, entries in search.unread.items():
        for entry in entries:
            if entry.cause == "dead link" and any(is_in(path, entry.path) for path in shown):
                continue
            message = f"on {node} it cannot be looked at, and weights may be there: {entry.why}"
            remedies = {
                "refused": _READABLE,
                "dead link": f"mount what it leads to; {_other_nodes(search)}",
                "links to files": f"on {node}: orz ckpt verify {shell_path(entry.path)}; or put the files there",
            }
            found = node_finding("unreadable", message, remedy=remedies[entry.cause], path=entry.path, node=node)
            older = last is not None and entry.step is not None and entry.step < last
            yield replace(found, severity=Severity.WARN) if older else found


def _without_weights(group: Group, search: Search) -> NodeFinding:
    listed = _listed(sorted(group.files))
    held = f"holds {count(len(group.files), 'file')} and no weights: {listed}" if listed else "is empty"
    who = "this machine has" if search.alone else "any node has"
    message = f"{group.title} is newer than all weights that {who}, has no manifest, and {held}"
    return node_finding("uncommitted", message, remedy=_others_or_older(search), path=group.title)


def _incomplete(group: Group, search: Search) -> NodeFinding:
    message = _lacks(group, group.missing, search)
    sought = search.alone or bool(_gone(group, group.missing))
    remedy = (
        _others_or_older(search) if sought else "take an older step, or put a whole copy in the damaged one's place"
    )
    return node_finding("pieces_incomplete", message, remedy=remedy, path=group.title)


def _perhaps_complete(group: Group, search: Search) -> NodeFinding:
    """Say what a checkpoint lacks of which the rest may hold copies: to see whether it does, all files are needed."""
    lacks = _lacks(group, group.missing, search)
    message = f"{lacks}; ranks hold copies of others' weights, and what is here does not say whose"
    verify = "orz ckpt verify" if len(group.members) == 1 else "orz ckpt collect, then orz ckpt verify"
    remedy = f"see whether the others hold all: {verify}"
    found = node_finding("pieces_incomplete", message, remedy=remedy, path=group.title)
    return replace(found, status=Status.INCONCLUSIVE)


def _copies_missing(group: Group, search: Search) -> NodeFinding:
    message = f"{_lacks(group, group.absent, search)}; the other ranks hold the same weights, so none are missing"
    remedy = f"to have the copies compared, too: {_ask_others(search)}"
    return node_finding("copies_missing", message, remedy=remedy, path=group.title)


def _lacks(group: Group, names: Sequence[str], search: Search) -> str:
    where = "on this machine" if search.alone else "that no node has"
    gone, parts, known = _gone(group, names), [], group.damaged
    if gone:
        parts.append(f"lacks {count(len(gone), 'file')} {where}: {_listed(gone)}")
    damaged = [
        f"{name} on {' and '.join(f'{node} ({nbytes:,} bytes)' for node, nbytes in known[name].items())}"
        for name in names
        if name in known
    ]
    if damaged:
        cut = "is cut off, or of another size than was saved"
        parts.append(f"{'has' if not gone else 'and has'} {count(len(damaged), 'file')} that {cut}: {_listed(damaged)}")
    return f"{group.title} {', '.join(parts)}"


def _gone(group: Group, names: Sequence[str]) -> list[str]:
    """Return those of `names` of which no node has anything; of a folder that lacks weights, not even damaged ones."""
    damaged = group.damaged
    return [
        name
        for name in names
        if name not in damaged and not (name.endswith("*") and any(other.startswith(name[:-1]) for other in damaged))
    ]


def _others_or_older(search: Search) -> str:
    if search.alone:
        return f"take an older step, or {_ask_others(search)}"
    return f"{_ask_others(search)}; or take an older step"


def _ask_others(search: Search) -> str:
    if search.alone:
        return f"ask the nodes that took part: {search.elsewhere}"
    return "start the nodes that took part and are down, then locate again"


def _other_nodes(search: Search) -> str:
    """Say which nodes may still have what those that were asked have nothing of."""
    if search.alone:
        return "ask the nodes that took part: --ray or --hosts"
    return _ask_others(search) if search.silent else "ask others that took part, if there are: --hosts"


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
