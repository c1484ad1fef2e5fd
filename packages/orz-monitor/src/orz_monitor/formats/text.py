"""A check for people: colour on a terminal, plain text in a pipe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from orz_cli.findings import Severity, Status
from orz_monitor.engine import Verdict
from orz_monitor.findings import Evidence, Finding
from orz_monitor.formats.document import Checked
from orz_monitor.formats.unknown_trainer import read_as
from orz_monitor.log import MOST_KEYS
from orz_monitor.printable import printable
from orz_monitor.rotation import read_with
from orz_monitor.run import Coverage, State
from orz_monitor.units import counted, shown

_STYLES: Final = {Severity.ERROR: "bold red", Severity.WARN: "bold yellow", Severity.INFO: "bold blue"}
_MOST_NAMED: Final = 20
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
    found = ", ".join(counted(n, word) for n, word in counts if n)
    goes_on = verdict.run.state is State.UNFINISHED and not verdict.fell_silent
    return found or ("nothing found so far" if goes_on else "nothing found")


def span(run_steps: Sequence[int]) -> str:
    """Say which steps a run has."""
    if not len(run_steps):
        return "no step yet"
    return f"steps {run_steps[0]} to {run_steps[-1]}" if len(run_steps) > 1 else f"step {run_steps[0]}"


def _print_check(console: Console, check: Checked, fail_on: Severity) -> None:
    """Print one path."""
    word, style = _MARKS.get(check.status(fail_on), ("could not decide", "bold yellow"))
    title = Text.assemble((word, style), "  ", (printable(str(check.path)), "bold"))
    reason = check.reason(fail_on)
    verdict = check.verdict
    if verdict is None:
        _say(console, 0, title)
        _say(console, 2, reason)
        return
    run = verdict.run
    _say(console, 0, title + Text(f"  {span(run.steps.tolist())}, {run.state}: {headline(verdict)}"))
    if reason:
        _say(console, 2, reason)
    for finding in verdict.findings:
        console.print()
        _print_finding(console, finding)
    for item in verdict.ignored:
        until = f" until {item.until}" if item.until is not None else ""
        _say(console, 2, f"ignored{until}: {item.finding.code}: {item.finding.message} ({item.reason})", "dim")
    if verdict.findings:
        console.print()
    _print_basis(console, verdict)


def _print_basis(console: Console, verdict: Verdict) -> None:
    """Print what the verdict rests on: how many rules and metrics, what was read and what was not."""
    run = verdict.run
    looked = len(verdict.passed) + len({finding.code for finding in verdict.findings})
    _say(console, 2, f"{counted(looked, 'rule')} evaluated on {counted(len(run.coverage.recognised), 'metric')}", "dim")
    if said := read_with(run.earlier):
        _say(console, 2, said, "dim")
    if run.restarts:
        steps = f"step{'s' if len(run.restarts) > 1 else ''} {_named([str(step) for step in run.restarts])}"
        _say(console, 2, f"restarted at {steps}: of a step that was made again, the last values count", "dim")
    if said := read_as(run):
        _say(console, 2, said, "dim")
    if run.coverage.unrecognised:
        _say(console, 2, f"under their own names: {_named(run.coverage.unrecognised)}", "dim")
    if missed := not_read(run.coverage):
        _say(console, 2, missed, "dim")
    _say(console, 2, f"judged as {run.preset}: {run.kind.why} (--preset overrides)", "dim")
    for reason, codes in _unjudged(verdict).items():
        _say(console, 2, f"not evaluated, {reason}: {', '.join(codes)}", "dim")


def not_read(coverage: Coverage) -> str:
    """Say what looks like metrics and was not read; empty where there is no such thing."""
    parts = []
    if coverage.unread:
        parts.append(f"keys without a number: {_named(coverage.unread)}")
    if coverage.num_missed_lines:
        parts.append(f"lines that look like metrics: {coverage.num_missed_lines}")
    if coverage.num_unnamed:
        parts.append(f"numbers without a name: {coverage.num_unnamed}")
    if coverage.num_dropped_keys:
        parts.append(f"keys beyond the first {MOST_KEYS}: {coverage.num_dropped_keys}")
    return f"not read: {'; '.join(parts)}" if parts else ""


def _named(names: Sequence[str]) -> str:
    """List names, the first of many."""
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return f"{', '.join(map(printable, names[:_MOST_NAMED]))}{more}"


def _unjudged(verdict: Verdict) -> dict[str, list[str]]:
    """Group the rules that could not judge by why: metrics that are missing, or a run that is still short.

    Metrics that the trainer can be made to log have a line of their own, which says how.
    """
    grouped: dict[str, list[str]] = {}
    for item in verdict.not_evaluated:
        if item.reason.startswith("too few steps"):
            reason = "too few steps"
        elif item.remedy:
            reason = f"{item.reason.replace(':', '')} ({item.remedy})"
        else:
            reason = "not logged" if item.reason.startswith("not logged") else item.reason
        grouped.setdefault(reason, []).append(item.code)
    return grouped


def _print_finding(console: Console, finding: Finding) -> None:
    """Print what was seen, the evidence, the likely causes and what to try."""
    severity = (str(finding.severity), _STYLES[finding.severity])
    _say(console, 2, Text.assemble(severity, f"[{finding.code}] ", (printable(finding.title), "bold")))
    _say(console, 4, finding.message)
    if finding.line is not None:
        _say(console, 4, f"{finding.file}:{finding.line}", "dim")
    for item in finding.evidence:
        _say(console, 4, compared(item), "dim")
    if finding.causes:
        _say(console, 4, "Likely causes, each with the check that confirms it:")
    for index, cause in enumerate(finding.causes, start=1):
        _say(console, 4, f"{index}. {cause.what}")
        _say(console, 7, f"check: {cause.confirm}", "dim")
        _say(console, 7, f"try: {cause.try_}")
    if finding.caveat:
        _say(console, 4, f"When to ignore it: {finding.caveat}", "dim")


def _say(console: Console, indent: int, text: str | Text, style: str = "") -> None:
    """Print indented text: wrapped on a terminal, in one line in a pipe."""
    shown_text = text if isinstance(text, Text) else Text(printable(text.replace("`", "")), style)
    if console.is_terminal:
        console.print(Padding(shown_text, (0, 0, 0, indent)))
    else:
        console.print(Text(" " * indent) + shown_text, soft_wrap=True)


def compared(item: Evidence) -> str:
    """Write one piece of evidence as a line: `policy/entropy 0.86 (median of ...) -> 0.003 (median of ...)`."""
    now = f"{shown(item.observed)} ({item.observed_is})"
    if item.baseline is None:
        return f"{item.metric}: {now}"
    return f"{item.metric}: {shown(item.baseline)} ({item.baseline_is}) -> {now}"
