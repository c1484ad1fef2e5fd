"""Where on all nodes do weights of a run lie, are they whole together, and what brings them home?"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from orz_ckpt.cluster.fleet import Answer, Fleet, Trouble, ask_all
from orz_ckpt.cluster.groups import Group, Located, group_pieces, newest_groups, of_one_run, same_views
from orz_ckpt.cluster.located_findings import Search, hides_weights, judge, newer_stubs, of_that_name
from orz_ckpt.cluster.verdict import NodeFinding, silent_nodes
from orz_ckpt.findings import conclude
from orz_ckpt.manifest import MANIFEST_NAME
from orz_ckpt.node.identity import working_directory
from orz_ckpt.node.pieces import STEP, LocatedPiece, named_after_run
from orz_ckpt.node.scan import BUDGET_S
from orz_ckpt.node.scanned import Unread
from orz_ckpt.node.wire import from_wire
from orz_ckpt.quoting import shell_path
from orz_ckpt.unfinished import go_on_collecting
from orz_cli.findings import Severity, Status, to_json

_GRACE_S: Final = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Location:
    """What was found on all nodes."""

    runs: Sequence[str]
    everywhere: bool
    """Whether all likely folders were searched, whatever the runs are called."""
    groups: Sequence[Group]
    commands: Sequence[str]
    """What to run next, in this order; one for each run where all were asked for; none where there is nothing to do."""
    listing: str
    """The command that lists all weights on the same nodes."""
    options: str
    """What to add to a printed command so that it asks the same nodes and lets them search as long."""
    nodes: Sequence[str]
    places: dict[str, list[dict[str, str]]]
    """By node: the folders that were searched, and why those."""
    left_out: dict[str, list[str]]
    files: int
    """How many files were looked at."""
    findings: Sequence[NodeFinding]
    seconds: float

    @property
    def command(self) -> str:
        """What to run next, or the first of it; empty where there is nothing to do."""
        return next(iter(self.commands), "")

    @property
    def subject(self) -> str:
        """What was asked for."""
        return ", ".join(self.runs) or "all likely folders"

    @property
    def silent(self) -> bool:
        """Whether a node gave no answer, or could not look everywhere: it may have what is missing."""
        silent = {*Trouble, "scan_cut_short"}
        return any(entry.code in silent for entry in self.findings) or hides_weights(self.findings)

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
                    "complete": group.complete if not group.conflicts else None,
                    "missing": group.missing,
                    "conflicts": list(group.conflicts),
                    "nodes": group.nodes,
                }
                for group in self.groups
            ],
            command=self.command,
            commands=list(self.commands),
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
    first = [answer.value for answer in answers.values() if answer.trouble is None]
    begun = next(filter(None, (go_on_collecting(Path(run)) for run in runs)), "")
    if runs and not begun and not any(value["pieces"] or value["cut"] or value.get("unread") for value in first):
        everywhere = True
        answers |= _ask(fleet, runs, everywhere=True, budget_s=budget_s)
    said = {name: answer.value for name, answer in answers.items() if answer.trouble is None}
    pieces = {name: [from_wire(LocatedPiece, piece) for piece in value["pieces"]] for name, value in said.items()}
    if not everywhere and not any(value.get("unread") for value in said.values()):
        pieces = _named_after_run(pieces)
    located, left = (same_views(pieces), []) if everywhere else of_one_run(same_views(pieces))
    groups = group_pieces(located, by_base=everywhere)
    search = Search(
        runs=runs,
        everywhere=everywhere,
        alone=not fleet.flags and len(fleet.nodes) == 1,
        flags=fleet.flags,
        cut=[f"{name}: {why}" for name, value in said.items() for why in value["cut"]],
        silent=len(said) < len(answers),
        begun=begun,
        passed=sorted((what for value in first for what in value["left_out"]), key=_depth) if runs else [],
        unread={} if everywhere else {name: _unread(value) for name, value in said.items()},
        budget_s=budget_s,
    )
    findings = silent_nodes(answers, search.subject)
    findings += judge(groups, search)
    findings += of_that_name(left, search.subject)
    return Location(
        runs=runs,
        everywhere=everywhere,
        groups=groups,
        commands=[] if hides_weights(findings) or (search.cut and runs) else _commands(groups, search),
        listing=search.listing,
        options=search.options,
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


def _named_after_run(pieces: Mapping[str, Sequence[LocatedPiece]]) -> dict[str, list[LocatedPiece]]:
    """Return the pieces by node, of all nodes together named as `named_after_run` does."""
    named = iter(named_after_run(piece for mine in pieces.values() for piece in mine))
    return {name: list(islice(named, len(mine))) for name, mine in pieces.items()}


def _depth(left_out: str) -> int:
    """Return how many folders are around what was left out."""
    return left_out.partition(": ")[0].count("/")


def _unread(value: Mapping[str, Any]) -> list[Unread]:
    """Return what a node could not look at; one of an older version does not say."""
    return [from_wire(Unread, entry) for entry in value.get("unread", ())]


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


def _commands(groups: Sequence[Group], search: Search) -> list[str]:
    """Return what to run next of the run, or one command for each run where all were asked for, the newest first."""
    if search.runs or not search.everywhere:
        return _next(groups, search)
    runs: dict[str, list[Group]] = {}
    for group in groups:
        runs.setdefault(group.members[0].piece.base, []).append(group)
    newest = sorted(runs.values(), key=lambda mine: -max(one.piece.newest for group in mine for one in group.members))
    return [command for mine in newest for command in _next(mine, search)[:1]]


def _next(groups: Sequence[Group], search: Search) -> list[str]:
    """Return what to run next of one run: to ask the other nodes, too, where they may have more of it.

    Beside that, to verify what is here: first, where other checkpoints of that step may have more, and it may not.
    Nothing where it would be refused, since copies differ in size.
    """
    newest = newest_groups([group for group in groups if group.weights])
    if any(group.conflicts for group in newest):
        return []
    more = [group for group in newest if group.perhaps_more and group.complete is None]
    if more and search.alone and search.runs and not search.everywhere:
        lacks = any(group.complete is False for group in newest) or bool(newer_stubs(groups, search))
        sure = [group for group in newest if group not in more]
        here = "" if lacks else _verify(sure or more)
        return [command for command in ((here, search.elsewhere) if sure else (search.elsewhere, here)) if command]
    return [command] if (command := _command(groups, search)) else []


def _command(groups: Sequence[Group], search: Search) -> str:
    """Return the command that brings the newest checkpoint together, or verifies it where it is together here.

    Where only this machine was asked and lacks some of it, that is the command that asks the others.
    """
    newest = newest_groups([group for group in groups if group.weights])
    if not newest and search.begun:
        return search.begun
    if not newest or (search.everywhere and search.runs):
        return ""  # weights of other runs: whose they are, nobody knows
    lacks = any(group.complete is False for group in newest) or bool(newer_stubs(groups, search))
    if search.alone and search.runs and lacks:
        return search.elsewhere
    if verify := _verify(newest):
        return verify
    bases = list(dict.fromkeys(member.piece.base for group in newest for member in group.members))
    given = list(search.runs) if search.runs and not search.everywhere else bases
    words = ["orz", "ckpt", "collect", *map(shell_path, given), "--to", shell_path(_destination(given, groups))]
    return " ".join(word for word in (*words, search.options) if word)


def _verify(groups: Sequence[Group]) -> str:
    """Return the command that verifies checkpoints where they lie; empty where one is not together, or not here."""
    if not all(len(group.members) == 1 and group.complete is not False and _at_home(group) for group in groups):
        return ""
    paths = dict.fromkeys(group.members[0].piece.path for group in groups)
    return f"orz ckpt verify {' '.join(shell_path(path) for path in paths)}"


def _at_home(group: Group) -> bool:
    return is_here(group.members[0].piece)


def _destination(runs: Sequence[str], groups: Sequence[Group]) -> str:
    """Return the run's own folder on this machine, or one beside it where a committed step stands in the way."""
    home = Path(runs[0]).absolute()
    steps = [group for group in groups if group.kind == STEP]
    if steps and not any((home / group.rel / MANIFEST_NAME).exists() for group in steps):
        return str(home)
    return f"{home}-collected"


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
        "missing": piece.missing,
    }
