"""A report as Markdown, short enough for a comment."""

from __future__ import annotations

from collections.abc import Iterable

from orz_monitor.findings import Finding
from orz_monitor.formats.text import compared, headline, span
from orz_monitor.report.content import Content
from orz_monitor.report.escape import markdown_escaped
from orz_monitor.rotation import read_with
from orz_monitor.units import duration, shown


def as_markdown(content: Content) -> str:
    """Return the verdict, the findings, and tables of metrics and time."""
    run, facts = content.run, content.facts
    word, _ = content.verdict_words
    took = f", {duration(facts.took_s)}" if facts.took_s is not None else ""
    lines = [
        f"# {markdown_escaped(facts.title)}: {word}",
        "",
        f"{span(run.steps.tolist())}, {run.state}{took}: {headline(content.verdict)}.",
        "",
    ]
    if said := read_with(run.earlier):
        lines += [f"{said[:1].upper()}{markdown_escaped(said[1:])}.", ""]
    for finding in content.verdict.findings:
        lines += _finding(finding)
    lines += _table(
        "Ignored",
        ("rule", "what was found", "why it is ignored"),
        [(item.finding.code, item.finding.message, item.reason) for item in content.verdict.ignored],
    )
    rows = [
        (s.name, shown(s.first), shown(s.last), shown(s.lowest), shown(s.highest), _unit(s.unit))
        for summaries in content.groups.values()
        for s in summaries
        if not s.constant
    ]
    lines += _table("Metrics", ("metric", "first", "last", "lowest", "highest", "unit"), rows)
    constant = [f"{s.name} {shown(s.last)}" for summaries in content.groups.values() for s in summaries if s.constant]
    if constant:
        lines += [f"Constant throughout: {markdown_escaped(', '.join(constant))}.", ""]
    total = sum(content.phases.values())
    lines += _table(
        "Time",
        ("phase", "in all", "share"),
        [(phase, duration(s), f"{100 * s / total:.0f} %") for phase, s in content.phases.items()],
    )
    lines += _table(
        "Not evaluated", ("rule", "why"), [(item.title, item.reason) for item in content.verdict.not_evaluated]
    )
    return "\n".join(lines).rstrip() + "\n"


def _unit(unit: str) -> str:
    """Write a metric's unit; a plain number has none."""
    return "-" if unit in {"1", ""} else unit


def _finding(finding: Finding) -> list[str]:
    """Return the lines of one finding."""
    lines = [
        f"## {finding.severity}: {markdown_escaped(finding.title)} (`{finding.code}`)",
        "",
        markdown_escaped(finding.message),
        "",
    ]
    place = [f"- {markdown_escaped(f'{finding.file.name}:{finding.line}')}"] if finding.file and finding.line else []
    lines += [*place, *(f"- {markdown_escaped(compared(item))}" for item in finding.evidence), ""]
    lines += [
        f"{i}. {cause.what}. Check: {cause.confirm}. Try: {cause.try_}." for i, cause in enumerate(finding.causes, 1)
    ]
    lines += ["", f"When to ignore it: {finding.caveat}"] if finding.caveat else []
    return [*lines, ""]


def _table(heading: str, columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    """Return a heading and a table; nothing where there are no rows."""
    body = [f"| {' | '.join(markdown_escaped(cell) for cell in row)} |" for row in rows]
    if not body:
        return []
    return [f"## {heading}", "", f"| {' | '.join(columns)} |", "|" + "---|" * len(columns), *body, ""]
