"""Where the time went, and what the run was."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from orz_monitor.formats.text import span
from orz_monitor.report.content import Content
from orz_monitor.report.escape import escaped
from orz_monitor.report.phases import color_of, phase_bar, phase_columns
from orz_monitor.units import duration, shown

MOST_LISTED = 8
"""Checkpoints named one by one."""


def time_spent(content: Content) -> str:
    """Draw where the time went."""
    if not content.phases:
        return ""
    run, total = content.run, sum(content.phases.values())
    rows = "".join(_phase_row(content, phase, seconds, total) for phase, seconds in content.phases.items())
    columns = phase_columns(run, content.phases)
    axis = (
        f'<div class="axis"><span>step {run.steps[0]}</span><span>seconds of each step</span>'
        f"<span>step {run.steps[-1]}</span></div>"
        if columns
        else ""
    )
    return (
        f'<h2>Time</h2><div class="card time">{phase_bar(content.phases)}{columns}{axis}'
        '<table><thead><tr><th>phase</th><th class="num">in all</th><th class="num">share</th>'
        f'<th class="num">median step</th></tr></thead><tbody>{rows}</tbody></table></div>'
    )


def provenance(content: Content) -> str:
    """List settings, course and environment."""
    facts = content.facts
    parts = ["<h2>The run</h2>", '<div class="pair">']
    if facts.settings:
        parts.append(f'<section class="card"><h3>Settings</h3>{table(facts.settings.items())}</section>')
    parts.append(f'<section class="card"><h3>Course</h3>{table(_course(content))}</section></div>')
    if facts.environment:
        known = table(facts.environment.items())
        parts.append(f"<details><summary>Environment</summary>{known}</details>")
    return "".join(parts)


def _phase_row(content: Content, phase: str, seconds: float, total: float) -> str:
    """Return the table row of one phase."""
    logged = content.run.seconds.get(phase)
    median = duration(float(np.median(logged.finite().values))) if logged is not None else ""
    return (
        f'<tr><td><span class="swatch {color_of(phase)}"></span>{escaped(phase)}</td>'
        f'<td class="num">{duration(seconds)}</td><td class="num">{100 * seconds / total:.1f} %</td>'
        f'<td class="num">{median}</td></tr>'
    )


def _course(content: Content) -> list[tuple[str, str]]:
    """Return what happened when, as table rows."""
    run, facts = content.run, content.facts
    rows = [
        ("state", str(run.state)),
        ("steps", span(run.steps.tolist())),
        ("wall time", duration(facts.wall_s) if facts.started else "not known: no record has a time"),
    ]
    if facts.tokens_trained is not None:
        rows.append(("tokens trained", shown(facts.tokens_trained)))
    rows.append(("restarts", ", ".join(f"step {step}" for step in run.restarts) or "none"))
    saved = [f"step {step}" for step in facts.checkpoints]
    listed = saved if len(saved) <= MOST_LISTED else [*saved[:3], "...", *saved[-3:]]
    rows.append(("checkpoints", ", ".join(listed) or "none"))
    for name, label in content.accuracies:
        series = run.series(name)
        if len(series):
            best = int(np.argmax(series.values))
            rows.append((f"best {label.lower()}", f"{shown(float(series.values[best]))} at step {series.steps[best]}"))
    return rows


def table(rows: Iterable[tuple[str, str]]) -> str:
    """Return a table of names and values."""
    body = "".join(f"<tr><td>{escaped(name)}</td><td>{escaped(value)}</td></tr>" for name, value in rows)
    return f"<table><tbody>{body}</tbody></table>"
