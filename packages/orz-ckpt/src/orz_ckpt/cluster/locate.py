"""Where on all nodes do weights of a run lie, are they whole together, and what brings them home?"""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from orz_ckpt.cluster.fleet import Answer, Fleet, Trouble, ask_all
from orz_ckpt.cluster.groups import Group, Located, group_pieces, newest_groups, of_one_run, same_views
from orz_ckpt.cluster.verdict import NodeFinding, node_finding, silent_nodes
from orz_ckpt.disk.mounts import in_ray_session
from orz_ckpt.findings import conclude
from orz_ckpt.manifest import MANIFEST_NAME
from orz_ckpt.node.identity import working_directory
from orz_ckpt.node.pieces import STEP, LocatedPiece, missing_names
from orz_ckpt.node.scan import BUDGET_S
from orz_ckpt.node.wire import from_wire
from orz_ckpt.report.words import count
from orz_cli.findings import Severity, Status, to_json

_MAX_NAMES: Final = 5
_GRACE_S: Final = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Location:
    """What was found on all nodes."""

    runs: Sequence[str]
    everywhere: bool
    """Whether all likely folders were searched, whatever the runs are called."""
    groups: Sequence[Group]
    command: str
    """What to run next; empty where there is nothing to do."""
    nodes: Sequence[str]
    places: dict[str, list[dict[str, str]]]
    """By node: the folders that were searched, and why those."""
    left_out: dict[str, list[str]]
    files: int
    """How many files were looked at."""
    findings: Sequence[NodeFinding]
    seconds: float

    @property
    def subject(self) -> str:
        """What was asked for."""
        return ", ".join(self.runs) or "all likely folders"

    @property
    def silent(self) -> bool:
        """Whether a node gave no answer: it may have what is missing."""
        return any(entry.code in set(Trouble) for entry in self.findings)

    def status(self, fail_on: Severity = Severity.ERROR) -> Status:
        """Conclude from the findings."""
        return conclude(self.findings, fail_on)

    def to_json(self, fail_on: Severity = Severity.ERROR) -> dict[str, Any]:
        """Return the JSON object that all judging commands share, with this command's own keys behind."""
        return to_json(
            self.status(fail_on),
            self.findings,
            path=self.subject,
            everywhere=self.everywhere,
            pieces=[_piece_json(member, group) for group in self.groups for member in group.members],
            checkpoints=[
                {
                    "rel": group.rel,
                    "kind": group.kind,
                    "step": group.step,
                    "complete": group.complete,
                    "missing": group.missing,
                    "nodes": group.nodes,
                }
                for group in self.groups
            ],
            command=self.command,
            nodes=list(self.nodes),
            places=self.places,
            left_out=self.left_out,
            files=self.files,
            seconds=round(self.seconds, 3),
        )


def locate(fleet: Fleet, runs: Sequence[str], *, budget_s: float = BUDGET_S) -> Location:
    """Ask every node where it has weights of `runs`; where none has any, ask what weights there are at all.

    Args:
        fleet: the nodes.
        runs: paths, as the user or a configuration spells them; none for all weights in likely folders.
        budget_s: how long a node may search.
    """
    begin = time.perf_counter()
    answers = _ask(fleet, runs, everywhere=not runs, budget_s=budget_s)
    everywhere = not runs
    if runs and not any(answer.value["pieces"] for answer in answers.values() if answer.trouble is None):
        everywhere = True
        answers |= _ask(fleet, runs, everywhere=True, budget_s=budget_s)
    said = {name: answer.value for name, answer in answers.items() if answer.trouble is None}
    pieces = {name: [from_wire(LocatedPiece, piece) for piece in value["pieces"]] for name, value in said.items()}
    located, left = (same_views(pieces), []) if everywhere else of_one_run(same_views(pieces))
    groups = group_pieces(located, by_base=everywhere)
    subject = ", ".join(runs) or "all likely folders"
    findings = silent_nodes(answers, subject)
    cut = [f"{name}: {why}" for name, value in said.items() for why in value["cut"]]
    findings += _judge(groups, subject, looked_for=bool(runs), everywhere=everywhere, cut=cut, sure=not findings)
    findings += _of_that_name(left, subject)
    return Location(
        runs=runs,
        everywhere=everywhere,
        groups=groups,
        command=_command(fleet, runs, groups, everywhere=everywhere),
        nodes=[node.name for node in fleet.nodes],
        places={name: value["places"] for name, value in said.items()},
        left_out={name: value["left_out"] for name, value in said.items()},
        files=sum(value["files"] for value in said.values()),
        findings=findings,
        seconds=time.perf_counter() - begin,
    )


def is_here(piece: LocatedPiece) -> bool:
    """Return whether this process sees the very folder of `piece`."""
    folder = Path(piece.path)
    try:
        same = folder.stat().st_ino == piece.inode
        # Two disks may use one number for their folders; they do not hold the same files by chance.
        return same and all((folder / name).lstat().st_size == size for name, size in piece.files.items())
    except OSError:
        return False


def _ask(fleet: Fleet, runs: Sequence[str], *, everywhere: bool, budget_s: float) -> dict[str, Answer]:
    return ask_all(
        fleet,
        "locate",
        timeout_s=budget_s + _GRACE_S,
        runs=list(runs),
        driver_cwd=working_directory(),
        everywhere=everywhere,
        budget_s=budget_s,
    )


def _judge(
    groups: Sequence[Group], subject: str, *, looked_for: bool, everywhere: bool, cut: Sequence[str], sure: bool
) -> list[NodeFinding]:
    """Say what the groups lack. Where a node is silent or a search was cut short, nothing is sure to be missing."""
    findings: list[NodeFinding] = []
    weights = [group for group in groups if group.weights]
    wanted = [] if everywhere and looked_for else weights
    newest = newest_groups(wanted)
    if not wanted:
        others = (
            f"; {count(len(weights), 'other checkpoint')} {'is' if len(weights) == 1 else 'are'} listed"
            if weights
            else ""
        )
        empty = [member.piece.path for group in groups if not group.weights for member in group.members]
        stubs = f"; {empty[-1]} is there and holds none" if empty and not everywhere else ""
        message = f"no node has weights of {subject}{stubs}{others}"
        remedy = "ask the nodes that took part: --ray or --hosts; look by another name, or without one: orz ckpt locate"
        findings.append(node_finding("nothing_located", message, remedy=remedy, path=subject))
    for group in wanted:
        findings += _of_group(group, decides=not everywhere and group in newest)
    if not sure or cut:
        findings = [replace(entry, status=Status.INCONCLUSIVE) for entry in findings]
    if cut:
        done = bool(newest) and all(group.complete for group in newest)
        entry = node_finding("scan_cut_short", "; ".join(cut), remedy="give it longer: --seconds 120", path=subject)
        findings.append(replace(entry, severity=Severity.WARN) if done else entry)
    for group in groups:
        for member in group.members:
            if in_ray_session(member.piece.path):
                message = f"on {member.nodes[0]} {member.piece.path} is a folder that Ray made and removes again"
                remedy = "collect it now, before the next job or restart"
                path = member.piece.path
                findings.append(
                    node_finding("piece_in_ray_session", message, remedy=remedy, path=path, node=member.nodes[0])
                )
    return findings


def _of_group(group: Group, *, decides: bool) -> Iterator[NodeFinding]:
    """Say what one checkpoint lacks: an error if it decides, being the newest of the run, and else a warning."""
    entry = None
    if group.complete is False:
        entry = _incomplete(group)
    elif group.complete is None and group.kind == STEP:
        message = f"{group.title}: no node has a manifest or a record of this save, so nothing says if this is all"
        entry = node_finding("uncommitted", message, remedy="take an older step", path=group.title)
    if entry is not None:
        yield entry if decides else replace(entry, severity=Severity.WARN)
    if len(group.attempts) > 1:
        message = f"{group.title}: its pieces come from different saves: {', '.join(group.attempts)}"
        remedy = "take an older step; these pieces do not belong together"
        yield node_finding("saves_mixed", message, remedy=remedy, path=group.title)


def _of_that_name(left: Sequence[Located], subject: str) -> Iterator[NodeFinding]:
    """Say which folders of the run's name were left out."""
    bases = dict.fromkeys((member.nodes[0], member.piece.base) for member in left)
    for node, base in list(bases)[:_MAX_NAMES]:
        message = f"on {node} {base} has the same name, and is not the run at that path: it was left out"
        yield node_finding("same_name", message, remedy="name it to ask for it", path=subject, node=node)


def _incomplete(group: Group) -> NodeFinding:
    missing = group.missing
    listed = ", ".join(missing[:_MAX_NAMES]) + (", ..." if len(missing) > _MAX_NAMES else "")
    message = f"{group.title} lacks {count(len(missing), 'file')} that no node has: {listed}"
    remedy = "start the nodes that took part and are down, then locate again; or take an older step"
    return node_finding("pieces_incomplete", message, remedy=remedy, path=group.title)


def _command(fleet: Fleet, runs: Sequence[str], groups: Sequence[Group], *, everywhere: bool) -> str:
    """Return the command that brings the newest checkpoint together, or verifies it where it is together here."""
    newest = newest_groups([group for group in groups if group.weights])
    if not newest or (everywhere and runs):
        return ""  # weights of other runs: whose they are, nobody knows
    if all(len(group.members) == 1 and group.complete is not False and _at_home(group) for group in newest):
        paths = dict.fromkeys(group.members[0].piece.path for group in newest)
        return f"orz ckpt verify {' '.join(shlex.quote(path) for path in paths)}"
    bases = list(dict.fromkeys(member.piece.base for group in newest for member in group.members))
    given = list(runs) if runs and not everywhere else bases
    words = ["orz", "ckpt", "collect", *(_quoted(run) for run in given), "--to", _quoted(_destination(given, groups))]
    return " ".join(word for word in (*words, fleet.flags) if word)


def _at_home(group: Group) -> bool:
    return is_here(group.members[0].piece)


def _destination(runs: Sequence[str], groups: Sequence[Group]) -> str:
    """Return the run's own folder on this machine, or one beside it where a committed step stands in the way."""
    home = Path(runs[0]).absolute()
    steps = [group for group in groups if group.kind == STEP]
    if steps and not any((home / group.rel / MANIFEST_NAME).exists() for group in steps):
        return str(home)
    return f"{home}-collected"


def _quoted(path: str) -> str:
    return shlex.quote(path if not path.startswith("-") else f"./{path}")


def _piece_json(member: Located, group: Group) -> dict[str, Any]:
    piece = member.piece
    document = asdict(piece)
    return {
        **document,
        "files": len(piece.files),
        "nodes": list(member.nodes),
        "rel": group.rel,
        "bytes": piece.bytes,
        "complete": piece.complete,
        "missing": missing_names(piece.wants or [], piece.files),
    }
