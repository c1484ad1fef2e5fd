"""What a copy came to, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group as Block
from rich.table import Table

from orz_ckpt.quoting import shell_path
from orz_ckpt.report.text import findings_text, headline
from orz_ckpt.report.words import plain, size
from orz_ckpt.urls import is_url
from orz_cli.findings import Severity, Status

if TYPE_CHECKING:
    from orz_ckpt.copy.run import Copied, CopiedUnit


def copy_text(done: Copied, fail_on: Severity = Severity.ERROR) -> Block:
    """Return what to print."""
    status = done.status(fail_on)
    head = headline(status, done.source)
    head.append(f" -> {plain(done.dest)}")
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("  checkpoint", "files", "size", "manifest", "copied"):
        table.add_column(title, overflow="fold", justify="right" if title in {"files", "size"} else "left")
    for unit in done.units:
        cells = (plain(unit.rel or "all of it"), f"{unit.files:,}", size(unit.bytes), "yes" if unit.covered else "no")
        table.add_row(f"  {cells[0]}", *cells[1:], _said(unit))
    notes = [entry for entry in done.findings if entry.code != "collected"]
    tail = findings_text(notes, done.source)
    speed = f", {size(int(done.bytes / done.seconds))}/s" if done.bytes and done.seconds else ""
    tail.append(f"\n  {size(done.bytes)} copied in {done.seconds:.1f} s{speed}", "dim")
    if status is Status.OK and not is_url(done.dest):
        tail.append("\n  next      ", "dim")
        tail.append(f"orz ckpt verify {shell_path(done.dest)}", "bold")
    return Block(head, *([table] if done.units else []), tail[1:])


def _said(unit: CopiedUnit) -> str:
    if unit.there:
        return "was there, not read again" if unit.covered else "was there, with the same bytes"
    return "yes" if unit.copied else "no"
