"""The verdict for people: what holds first, then each finding and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from orz_ckpt.report.words import count, plain, relative, size
from orz_cli.findings import Severity, Status

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orz_ckpt.findings import CkptFinding, Report

STATUS_STYLES = {
    Status.OK: "bold green",
    Status.FAILED: "bold red",
    Status.INCONCLUSIVE: "bold yellow",
    Status.REFUSED: "bold red",
}
_SEVERITY_STYLES = {Severity.ERROR: "red", Severity.WARN: "yellow", Severity.INFO: "dim"}


def to_text(report: Report, fail_on: Severity = Severity.ERROR) -> Text:
    """Return the verdict; `str` of it is plain text."""
    status = report.status(fail_on)
    text = headline(status, report.path)
    if report.subject:
        text.append(f"\n  {plain(report.subject)}", "dim")
    for part in report.parts:
        part_status = part.status(fail_on)
        text.append(f"\n  {part_status.value:<12} ", STATUS_STYLES[part_status])
        text.append(plain(relative(part.path, report.path)))
    text.append_text(findings_text(report.findings, report.path))
    text.append(f"\n  {_summary(report)}\n", "dim")
    return text


def headline(status: Status, subject: str) -> Text:
    """Return how a verdict begins: `FAILED runs/exp`."""
    return Text.assemble((f"{status.value.upper()} ", STATUS_STYLES[status]), (plain(subject), "bold"))


def findings_text(findings: Iterable[CkptFinding], base: str) -> Text:
    """Return all findings, errors first, each beginning with a new line; paths as seen from `base`."""
    text = Text()
    ordered = list(findings)
    for severity in Severity:
        for entry in ordered:
            if entry.severity is severity:
                text.append_text(_finding(entry, base))
    return text


def _finding(entry: CkptFinding, base: str) -> Text:
    text = Text()
    text.append(f"\n  {entry.severity.value:<5} ", _SEVERITY_STYLES[entry.severity])
    text.append(entry.code, "bold")
    if entry.path != base:
        text.append(f"  {plain(relative(entry.path, base))}")
    text.append(f"\n        {plain(entry.message)}")
    if entry.remedy:
        text.append("\n        -> ", "bold")
        text.append(plain(entry.remedy))
    return text


def _summary(report: Report) -> str:
    parts = [
        count(sum(entry.severity is severity for entry in report.findings), noun)
        for severity, noun in ((Severity.ERROR, "error"), (Severity.WARN, "warning"), (Severity.INFO, "note"))
        if any(entry.severity is severity for entry in report.findings)
    ]
    looked = f"{count(report.files, 'file')}, {size(report.bytes)}, {count(report.tensors, 'tensor')}"
    return " · ".join([", ".join(parts) or "nothing found", looked, f"{report.level.value}, {report.seconds:.1f} s"])
