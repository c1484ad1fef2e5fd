"""A preflight for people: the verdict, a line a node, the findings."""

from __future__ import annotations

from rich.console import Group
from rich.table import Table
from rich.text import Text

from orz_ckpt.cluster.preflight import Preflight
from orz_ckpt.cluster.storage_checks import Folder
from orz_ckpt.report.text import findings_text, headline
from orz_ckpt.report.words import plain, size
from orz_cli.findings import Severity


def preflight_text(result: Preflight, fail_on: Severity = Severity.ERROR) -> Group:
    """Return what to print."""
    status = result.status(fail_on)
    head = headline(status, result.path)
    head.append(f"\n  {result.sharing.value if result.sharing else 'NOWHERE WRITABLE'}", "bold")
    head.append(f" (not known of {plain(', '.join(result.apart))})" if result.sharing and result.apart else "")
    head.append(f", expected {result.expect.value}")
    for number, group in enumerate(result.groups, start=1):
        head.append(f"\n  disk {number}: {plain(', '.join(group))}")
    folders = {folder.node: folder for folder in result.folders}
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("  node", "path there", "file system", "free", "write", "verdict"):
        table.add_column(title, overflow="fold")
    for node in result.nodes:
        verdicts = result.verdicts(node)
        style = "red" if verdicts else "green"
        table.add_row(f"  {plain(node)}", *_cells(folders.get(node)), Text(", ".join(verdicts) or "ok", style))
    tail = findings_text(result.findings, result.path)
    tail.append(f"\n  {len(result.nodes)} node{'s' if len(result.nodes) != 1 else ''}, {result.seconds:.1f} s", "dim")
    if result.nbytes and (slowest := _slowest(result)):
        tail.append(f"; writing {size(result.nbytes)} takes about {result.nbytes / slowest:.0f} s", "dim")
    return Group(head, table, tail[1:])


def _cells(folder: Folder | None) -> tuple[str, str, str, str]:
    if folder is None:
        return ("", "", "", "")
    facts = folder.facts
    free = "?" if facts.free_bytes is None else size(facts.free_bytes)
    speed = "" if facts.bytes_per_s is None else f"{size(int(facts.bytes_per_s))}/s"
    return plain(facts.real or facts.path), plain(facts.fstype or "?"), free, speed


def _slowest(result: Preflight) -> float | None:
    return min((folder.facts.bytes_per_s for folder in result.folders if folder.facts.bytes_per_s), default=None)
