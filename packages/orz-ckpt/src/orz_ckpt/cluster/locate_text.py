"""Located pieces for people: a line each, what they are together, the command."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.console import Group as Block
from rich.table import Table
from rich.text import Text

from orz_ckpt.cluster.groups import Group, Located
from orz_ckpt.cluster.locate import Location
from orz_ckpt.node.pieces import STEP
from orz_ckpt.report.text import findings_text, headline
from orz_ckpt.report.words import count, plain, ranks, size, yes_no
from orz_cli.findings import Severity

_MAX_UNASKED: Final = 10
"""Checkpoints of other runs that are shown where there is nothing of the one that was asked for."""
_MAX_NEXT: Final = 5
"""Commands that are shown where all runs were asked for."""


def locate_text(found: Location, fail_on: Severity = Severity.ERROR) -> Block:
    """Return what to print."""
    status = found.status(fail_on)
    head = headline(status, found.subject)
    parts: list[Text | Table] = [head]
    unasked = found.everywhere and bool(found.runs)
    listed = found.groups[-_MAX_UNASKED:] if unasked else found.groups
    if listed:
        parts.append(_table(listed))
    tail = Text()
    if len(listed) < len(found.groups):
        left = count(len(found.groups) - len(listed), "other checkpoint")
        tail.append(f"\n  and {left}; all are listed by: {plain(found.listing)}", "dim")
    for group in listed:
        if len(group.members) > 1:
            tail.append(f"\n  together  {plain(group.title)}: {_together(group)}")
    tail.append_text(findings_text(found.findings, found.subject))
    looked = f"{count(len(found.nodes), 'node')}, {count(found.files, 'file')} looked at, {found.seconds:.1f} s"
    tail.append(f"\n  {looked}", "dim")
    for command in found.commands[:_MAX_NEXT]:
        tail.append("\n  next      ", "dim")
        tail.append(plain(command), "bold")
    if len(found.commands) > _MAX_NEXT:
        left = count(len(found.commands) - _MAX_NEXT, "other run")
        tail.append(f"\n  and so for {left}; --json lists the commands of all", "dim")
    parts.append(tail[1:])
    return Block(*parts)


def _table(groups: Sequence[Group]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("  node", "path", "step", "kind", "files", "size", "complete?", "committed?"):
        table.add_column(title, overflow="fold", justify="right" if title in {"step", "files", "size"} else "left")
    for group in groups:
        for member in group.members:
            table.add_row(*_row(member))
    return table


def _row(member: Located) -> tuple[str, ...]:
    piece = member.piece
    shared = f" (and {', '.join(member.nodes[1:])})" if member.nodes[1:] else ""
    complete = yes_no(piece.complete)
    if piece.ranks:
        complete = f"{complete}, {ranks(piece.ranks)}"
    foreign = piece.committed is None and piece.kind != STEP
    committed = "in flight" if piece.in_flight else "-" if foreign else yes_no(piece.committed)
    return (
        f"  {plain(member.nodes[0] + shared)}",
        plain(piece.path),
        "-" if piece.step is None else str(piece.step),
        piece.kind,
        f"{len(piece.files):,}",
        size(piece.bytes),
        complete,
        committed,
    )


def _together(group: Group) -> str:
    if group.conflicts:
        return f"{count(len(group.conflicts), 'file')} of another size on another node"
    if group.complete is None:
        return "nothing says whether this is all"
    if group.complete:
        return f"complete, {size(sum(group.files.values()))}"
    return f"{count(len(group.missing), 'file')} missing"
