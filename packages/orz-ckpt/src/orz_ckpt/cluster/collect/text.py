"""A collection for people: what came from where, the findings, what to do next."""

from __future__ import annotations

from rich.console import Group as Block
from rich.table import Table
from rich.text import Text

from orz_ckpt.cluster.collect.outcome import Collection, Gathered
from orz_ckpt.quoting import shell_path
from orz_ckpt.report.text import findings_text, headline
from orz_ckpt.report.words import plain, size, yes_no
from orz_ckpt.urls import is_url
from orz_cli.findings import Severity, Status


def collect_text(done: Collection, fail_on: Severity = Severity.ERROR) -> Block:
    """Return what to print."""
    status = done.status(fail_on)
    head = headline(status, ", ".join(done.runs))
    head.append(f" -> {plain(done.dest)}{' (dry run)' if done.dry_run else ''}")
    parts: list[Text | Table] = [head]
    if done.gathered:
        table = Table(box=None, pad_edge=False, header_style="dim")
        for title in ("  checkpoint", "node", "files", "to copy", "size", "complete?", "committed?"):
            right = title in {"files", "to copy", "size"}
            table.add_column(title, overflow="fold", justify="right" if right else "left")
        for one in done.gathered:
            for row in _rows(one, done.dest, dry_run=done.dry_run):
                table.add_row(*row)
        parts.append(table)
    tail = findings_text(done.findings, done.dest)
    speed = f", {size(int(done.copied_bytes / done.seconds))}/s" if done.copied_bytes and done.seconds else ""
    tail.append(f"\n  {size(done.copied_bytes)} copied in {done.seconds:.1f} s{speed}", "dim")
    brought = bool(done.gathered) and (status is Status.OK or any(entry.code == "collected" for entry in done.findings))
    if not done.dry_run and status is not Status.REFUSED and brought and not is_url(done.dest):
        tail.append("\n  next      ", "dim")
        tail.append(f"orz ckpt verify {shell_path(done.dest)}", "bold")
    parts.append(tail[1:])
    return Block(*parts)


def _rows(one: Gathered, dest: str, *, dry_run: bool) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for node in dict.fromkeys(move.origin.node for move in one.moves):
        mine = [move for move in one.moves if move.origin.node == node]
        coming = [move for move in mine if not move.there]
        rows.append(
            (
                f"  {plain(one.rel or dest)}",
                plain(node),
                f"{len(mine):,}",
                f"{len(coming):,}",
                size(sum(move.file.size for move in coming)),
                yes_no(one.complete),
                "-" if dry_run or one.kind != "orz" else yes_no(one.committed),
            )
        )
    return rows
