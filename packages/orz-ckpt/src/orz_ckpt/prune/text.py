"""What prune deletes and what it keeps, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group as Block
from rich.table import Table
from rich.text import Text

from orz_ckpt.report.text import findings_text, headline
from orz_ckpt.report.words import count, plain, size
from orz_cli.findings import Severity, Status

if TYPE_CHECKING:
    from orz_ckpt.prune.run import Pruned


def prune_text(done: Pruned, again: str, fail_on: Severity = Severity.ERROR) -> Block:
    """Return what to print.

    Args:
        done: what was planned and done.
        again: the command that does what a dry run shows.
        fail_on: the severity from which on a finding fails the command.
    """
    status = done.status(fail_on)
    head = headline(status, str(done.run))
    head.append(" (dry run)" if done.dry_run else "")
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("  step", "size", "plan", "why"):
        table.add_column(title, overflow="fold", justify="right" if title in {"  step", "size"} else "left")
    for entry in done.plan.entries:
        verb = Text("delete", "red") if entry.delete else Text("keep", "green")
        table.add_row(f"  {entry.step}", size(entry.bytes), verb, plain(entry.why))
    tail = findings_text((entry for entry in done.findings if entry.code != "pruned"), str(done.run))
    doomed = done.plan.doomed
    if done.dry_run:
        nbytes = sum(entry.bytes for entry in doomed)
        tail.append(
            f"\n  {count(len(doomed), 'step')} to delete, {size(nbytes)}; without --yes nothing is deleted", "dim"
        )
        if doomed and status is Status.OK:
            tail.append("\n  next      ", "dim")
            tail.append(again, "bold")
    else:
        tail.append(f"\n  {count(len(done.deleted), 'step')} deleted, {size(done.freed_bytes)} freed", "dim")
    return Block(head, *([table] if done.plan.entries else []), tail[1:])
