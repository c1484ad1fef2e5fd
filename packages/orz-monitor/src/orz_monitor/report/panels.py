"""Small charts of every metric that changes."""

from __future__ import annotations

from typing import Final

from orz_cli.findings import Severity
from orz_monitor.findings import rank
from orz_monitor.report.charts import MOST_POINTS, Marks, line_chart
from orz_monitor.report.content import Content, Summary
from orz_monitor.report.escape import escaped
from orz_monitor.series import Series
from orz_monitor.units import shown

MOST_CHARTS: Final = 120
"""Metrics that are drawn; more are listed with their last values."""
MOST_LISTED: Final = 300
POINTS_OF_A_PAGE: Final = 14_000
FEWEST_POINTS: Final = 100


def metrics(content: Content) -> str:
    """Draw a small chart of every metric that changes, and list those that don't."""
    parts = ["<h2>Metrics</h2>", _legend(content)]
    constant = [s for summaries in content.groups.values() for s in summaries if s.constant]
    most, left = points_of_a_chart(content), MOST_CHARTS
    listed: list[Summary] = []
    for heading, summaries in content.groups.items():
        changing = [s for s in summaries if not s.constant and s.num_steps > 0]
        drawn, left = changing[:left], max(0, left - len(changing))
        listed += changing[len(drawn) :]
        if drawn:
            panels = "".join(_panel(content, summary, most) for summary in drawn)
            parts.append(f'<h3>{escaped(heading)}</h3><div class="panels">{panels}</div>')
    if listed:
        named = " · ".join(f"<code>{escaped(s.name)}</code> {escaped(shown(s.last))}" for s in listed[:MOST_LISTED])
        more = f" and {len(listed) - MOST_LISTED} more" if len(listed) > MOST_LISTED else ""
        parts.append(f'<h3>{len(listed)} more, with their last values</h3><p class="names">{named}{more}</p>')
    if constant:
        named = " · ".join(f"<code>{escaped(s.name)}</code> {escaped(shown(s.last))}" for s in constant[:MOST_LISTED])
        parts.append(f'<h3>Constant throughout</h3><p class="names">{named}</p>')
    return "".join(parts)


def points_of_a_chart(content: Content) -> int:
    """Return how many points each chart may have, so that pages of many charts stay small."""
    changing = sum(not s.constant and s.num_steps > 0 for summaries in content.groups.values() for s in summaries)
    return max(FEWEST_POINTS, min(MOST_POINTS, POINTS_OF_A_PAGE // max(1, min(changing, MOST_CHARTS))))


def _panel(content: Content, summary: Summary, most: int) -> str:
    """Draw the chart of one metric, with its last value above it."""
    run = content.run
    series = run.metrics[summary.name]
    about = [f for f in content.verdict.findings if f.evidence and f.evidence[0].metric == summary.name]
    worst = min((f.severity for f in about), key=rank, default=None)
    spans = tuple(
        (f.first_step, f.last_step, str(f.severity))
        for f in about
        if f.severity is worst and f.first_step is not None and f.last_step is not None
    )
    marks = Marks(
        first=int(run.steps[0]),
        last=int(run.steps[-1]),
        restarts=run.restarts,
        checkpoints=content.facts.checkpoints,
        spans=spans,
    )
    evaluation: Series | None = None
    if summary.name == "reward/mean":
        held_out = content.accuracies
        evaluation = run.series(held_out[0][0]) if held_out else None
    label = (
        f"{summary.name}: from {shown(summary.first)} to {shown(summary.last)}, "
        f"between {shown(summary.lowest)} and {shown(summary.highest)}"
    )
    tone = f" is-{worst}" if worst in {Severity.ERROR, Severity.WARN} else ""
    unit = (
        "" if summary.unit in {"1", "fraction", "count", ""} else f' <span class="unit">{escaped(summary.unit)}</span>'
    )
    return (
        f'<figure class="panel card{tone}"><div class="top"><span class="name">{escaped(summary.name)}</span>'
        f'<span class="value">{escaped(shown(summary.last))}{unit}</span></div>'
        f'<figcaption class="meaning">{escaped(summary.meaning or "not in the registry")}</figcaption>'
        f"{line_chart(series, marks, label=label, points=evaluation, most=most)}</figure>"
    )


_LINES: Final = (
    '<fieldset class="lines"><legend>Lines</legend>'
    '<label><input type="radio" name="lines" id="lines-both" checked=""/>both</label>'
    '<label><input type="radio" name="lines" id="lines-raw"/>as logged</label>'
    '<label><input type="radio" name="lines" id="lines-smooth"/>smoothed</label></fieldset>'
)
"""Which lines are drawn; the page's styles act on it, so that it works where scripts may not run."""


def _legend(content: Content) -> str:
    """Explain the marks that this page has."""
    run = content.run

    def key(drawing: str, text: str) -> str:
        return f'<span><svg viewBox="0 0 22 12" aria-hidden="true">{drawing}</svg>{text}</span>'

    items = [key('<path class="line raw" d="M1 8L6 3L11 9L16 4L21 7"/>', "as logged")]
    items.append(key('<path class="line smooth" d="M1 9C8 9 12 3 21 3"/>', "smoothed"))
    if content.accuracies:
        items.append(key('<circle class="dot eval" cx="11" cy="6" r="3.5"/>', "held-out accuracy"))
    if run.restarts:
        items.append(key('<path class="restart" d="M11 0V12"/>', "restart"))
    if content.facts.checkpoints:
        items.append(key('<path class="checkpoint" d="M7 10h8l-4 -7z"/>', "checkpoint"))
    if any(item.metric in run.metrics for f in content.verdict.findings for item in f.evidence):
        items.append(key('<rect class="span error" width="22" height="12"/>', "finding"))
    return f'<div class="legend">{"".join(items)}{_LINES}</div>'
