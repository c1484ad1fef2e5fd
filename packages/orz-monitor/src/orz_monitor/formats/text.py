"""A check for people: colour on a terminal, plain text in a pipe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from orz_monitor.engine import Status, Verdict
from orz_monitor.findings import Evidence, Finding, Severity, shown
from orz_monitor.formats.document import Checked

_STYLES: Final = {Severity.ERROR: "bold red", Severity.WARN: "bold yellow", Severity.INFO: "bold blue"}
_MARKS: Final = {Status.OK: ("ok", "bold green"), Status.FAILED: ("failed", "bold red")}


def print_checks(console: Console, checks: Sequence[Checked], fail_on: Severity) -> None:
    """Print each path's verdict, its findings, and what could not be judged."""
    for index, check in enumerate(checks):
        if index:
            console.print()
        _print_check(console, check, fail_on)


def headline(verdict: Verdict) -> str:
    """Say in a few words what was found."""
    words = {Severity.ERROR: "error", Severity.WARN: "warning", Severity.INFO: "note"}
    counts = [(verdict.count(severity), word) for severity, word in words.items()]
    found = ", ".join(f"{n} {word}{'s' if n > 1 else ''}" for n, word in counts if n)
    return found or "nothing found"


def span(run_steps: Sequence[int]) -> str:
    """Say which steps a run has."""
    if not len(run_steps):
        return "no step yet"
    return f"steps {run_steps[0]} to {run_steps[-1]}" if len(run_steps) > 1 else f"step {run_steps[0]}"


def _print_check(console: Console, check: Checked, fail_on: Severity) -> None:
    """Print one path."""
    status = check.status(fail_on)
    word, style = _MARKS.get(status, ("could not decide", "bold yellow"))
    title = Text.assemble((word, style), "  ", (str(check.path), "bold"))
    verdict = check.verdict
    if verdict is None:
        console.print(title)
        console.print(Padding(Text(check.reason), (0, 0, 0, 2)))
        return
    run = verdict.run
    console.print(title + Text(f"  {span(run.steps.tolist())}, {run.state}: {headline(verdict)}"))
    if check.reason:
        console.print(Padding(Text(check.reason), (0, 0, 0, 2)))
    for finding in verdict.findings:
        _print_finding(console, verdict, finding)
    looked = len(verdict.passed) + len({finding.code for finding in verdict.findings})
    console.print(Padding(Text(f"{looked} rules evaluated on {len(run.coverage.recognised)} metrics", "dim"), (0, 2)))
    if verdict.not_evaluated:
        console.print(Padding(Text("not evaluated:", "dim"), (0, 2)))
        for item in verdict.not_evaluated:
            console.print(Padding(Text(f"{item.code}: {item.reason}", "dim"), (0, 4)))


def _print_finding(console: Console, verdict: Verdict, finding: Finding) -> None:
    """Print what was seen, the evidence, the likely causes and what to try."""
    console.print()
    head = Text.assemble(
        (f"{finding.severity}", _STYLES[finding.severity]), f"[{finding.code}] ", (finding.title, "bold")
    )
    console.print(Padding(head, (0, 2)))
    console.print(Padding(Text(finding.message), (0, 4)))
    line = verdict.run.line_of(finding.first_step)
    if line is not None:
        console.print(Padding(Text(f"{verdict.run.path}:{line}", "dim"), (0, 4)))
    for item in finding.evidence:
        console.print(Padding(Text(compared(item), "dim"), (0, 4)))
    for index, cause in enumerate(finding.causes, start=1):
        console.print(Padding(Text(f"{index}. perhaps {cause.what}".replace("`", "")), (0, 4)))
        console.print(Padding(Text(f"check: {cause.confirm}".replace("`", ""), "dim"), (0, 7)))
        console.print(Padding(Text.assemble(("try: ", "bold"), cause.try_.replace("`", "")), (0, 7)))
    if finding.caveat:
        console.print(Padding(Text(f"But: {finding.caveat}".replace("`", ""), "dim"), (0, 4)))
    if finding is verdict.findings[-1]:
        console.print()


def compared(item: Evidence) -> str:
    """Write one piece of evidence as a line: `policy/entropy 0.86 (median of ...) -> 0.003 (median of ...)`."""
    now = f"{shown(item.observed)} ({item.observed_is})"
    if item.baseline is None:
        return f"{item.metric}: {now}"
    return f"{item.metric}: {shown(item.baseline)} ({item.baseline_is}) -> {now}"
