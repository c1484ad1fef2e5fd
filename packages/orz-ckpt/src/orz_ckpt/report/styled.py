"""The verdict for people: what holds first, then each finding and what to do about it; as text in styles."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orz_ckpt.report.words import count, plain, relative, size
from orz_cli.findings import Severity, Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from orz_ckpt.findings import CkptFinding, Report
    from orz_cli.styled import Styled

STATUS_STYLES = {
    Status.OK: "bold green",
    Status.FAILED: "bold red",
    Status.INCONCLUSIVE: "bold yellow",
    Status.REFUSED: "bold red",
}
_SEVERITY_STYLES = {Severity.ERROR: "red", Severity.WARN: "yellow", Severity.INFO: "dim"}


def verdict_pieces(report: Report, fail_on: Severity = Severity.ERROR) -> Styled:
    """Yield the verdict."""
    yield from headline_pieces(report.status(fail_on), report.path)
    if report.subject:
        yield f"\n  {plain(report.subject)}", "dim"
    for part in report.parts:
        status = part.status(fail_on)
        yield f"\n  {status.value:<12} ", STATUS_STYLES[status]
        yield plain(relative(part.path, report.path)), ""
    yield from findings_pieces(report.findings, report.path)
    yield f"\n  {_summary(report)}\n", "dim"


def headline_pieces(status: Status, subject: str) -> Styled:
    """Yield how a verdict begins: `FAILED runs/exp`."""
    yield f"{status.value.upper()} ", STATUS_STYLES[status]
    yield plain(subject), "bold"


def findings_pieces(findings: Iterable[CkptFinding], base: str) -> Styled:
    """Yield all findings, errors first, each beginning with a new line; paths as seen from `base`."""
    ordered = list(findings)
    for severity in Severity:
        for entry in ordered:
            if entry.severity is severity:
                yield from _finding(entry, base)


def _finding(entry: CkptFinding, base: str) -> Iterator[tuple[str, str]]:
    yield f"\n  {entry.severity.value:<5} ", _SEVERITY_STYLES[entry.severity]
    yield entry.code, "bold"
    if entry.path != base:
        yield f"  {plain(relative(entry.path, base))}", ""
    yield f"\n        {plain(entry.message)}", ""
    if entry.remedy:
        yield "\n        -> ", "bold"
        yield plain(entry.remedy), ""


def _summary(report: Report) -> str:
    parts = [
        count(sum(entry.severity is severity for entry in report.findings), noun)
        for severity, noun in ((Severity.ERROR, "error"), (Severity.WARN, "warning"), (Severity.INFO, "note"))
        if any(entry.severity is severity for entry in report.findings)
    ]
    looked = f"{count(report.files, 'file')}, {size(report.bytes)}, {count(report.tensors, 'tensor')}"
    return " · ".join([", ".join(parts) or "nothing found", looked, f"{report.level.value}, {report.seconds:.1f} s"])
