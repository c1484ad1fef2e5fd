"""What all nodes verified, for people: a line a piece, the findings."""

from __future__ import annotations

from rich.console import Group as Block
from rich.table import Table
from rich.text import Text

from orz_ckpt.cluster.verify_outcome import ClusterReport, VerifiedPiece
from orz_ckpt.report.styled import STATUS_STYLES
from orz_ckpt.report.text import findings_text, headline
from orz_ckpt.report.words import count, plain, size, spans
from orz_cli.findings import Severity


def verify_text(report: ClusterReport, fail_on: Severity = Severity.ERROR) -> Block:
    """Return what to print."""
    status = report.status(fail_on)
    head = headline(status, report.path)
    parts: list[Text | Table] = [head]
    if report.pieces:
        table = Table(box=None, pad_edge=False, header_style="dim")
        for title in ("  node", "path", "step", "kind", "ranks", "files", "size", "verified", "verdict"):
            right = title in {"step", "files", "size"}
            table.add_column(title, overflow="fold", justify="right" if right else "left")
        for piece in report.pieces:
            table.add_row(*_cells(piece), Text(piece.status(fail_on).value, STATUS_STYLES[piece.status(fail_on)]))
        parts.append(table)
    tail = findings_text(report.findings, report.path)
    nbytes = sum(piece.bytes for piece in report.pieces)
    nodes = count(len(report.nodes), "node")
    tail.append(f"\n  {nodes}, {size(nbytes)} · {report.level.value}, {report.seconds:.1f} s", "dim")
    parts.append(tail[1:])
    return Block(*parts)


def _cells(piece: VerifiedPiece) -> tuple[str, ...]:
    others = [node for node in piece.nodes if node != piece.node]
    shared = f" (and {', '.join(others)})" if others else ""
    return (
        f"  {plain(piece.node + shared)}",
        plain(piece.path),
        "-" if piece.step is None else str(piece.step),
        piece.kind,
        spans(piece.ranks) if piece.ranks else "-",
        f"{piece.files:,}",
        size(piece.bytes),
        "whole" if piece.whole else "file by file",
    )
