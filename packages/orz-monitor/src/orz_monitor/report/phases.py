"""Where the time went: a bar for the whole run, and columns over the steps."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from orz_monitor.records import PHASES
from orz_monitor.report.escape import escaped
from orz_monitor.run import Run
from orz_monitor.stats import Array
from orz_monitor.units import duration

_COLORS = {phase: index + 1 for index, phase in enumerate([*(p for p in PHASES if p != "total"), "other"])}
MOST_COLUMNS = 90
_WIDTH, _HEIGHT = 1000, 150
_SMALLEST_HEIGHT = 0.2
"""Of the drawing; less is not seen."""


def color_of(phase: str) -> str:
    """Return the CSS class of a phase; the same in every chart."""
    return f"p{_COLORS.get(phase, len(_COLORS))}"


def phase_bar(phases: Mapping[str, float]) -> str:
    """Draw the shares of the whole run as one bar."""
    total = sum(phases.values())
    if total <= 0:
        return ""
    parts, left = [], 0.0
    for phase, seconds in phases.items():
        width = 1000 * seconds / total
        title = f"{phase}: {duration(seconds)}, {100 * seconds / total:.0f} %"
        parts.append(
            f'<rect class="{color_of(phase)}" x="{left:.1f}" width="{max(width - 1.5, 0.5):.1f}" height="26">'
            f"<title>{escaped(title)}</title></rect>"
        )
        left += width
    spoken = ", ".join(f"{phase} {100 * seconds / total:.0f} percent" for phase, seconds in phases.items())
    return (
        f'<svg class="phasebar" viewBox="0 0 1000 26" preserveAspectRatio="none" role="img" '
        f'aria-label="Share of the time: {escaped(spoken)}">{"".join(parts)}</svg>'
    )


def phase_columns(run: Run, phases: Mapping[str, float]) -> str:
    """Draw the seconds of each step, or of stretches of steps, stacked by phase."""
    if "total" not in run.seconds or len(run.steps) < 2:  # noqa: PLR2004 - one column shows no course
        return ""
    named = [phase for phase in phases if phase != "other"]
    total = _spent(run, "total")
    spent = {phase: _spent(run, phase) for phase in named}
    if "other" in phases:
        spent["other"] = np.maximum(total - sum(spent.values()), 0)
    stretches = np.array_split(np.arange(len(run.steps)), min(MOST_COLUMNS, len(run.steps)))
    heights = {phase: [float(values[part].mean()) for part in stretches] for phase, values in spent.items()}
    tallest = max(sum(column) for column in zip(*heights.values(), strict=True))
    if tallest <= 0:
        return ""
    wide = _WIDTH / len(stretches)
    parts = []
    for index, part in enumerate(stretches):
        base = float(_HEIGHT)
        first, last = int(run.steps[part[0]]), int(run.steps[part[-1]])
        where = f"step {first}" if first == last else f"steps {first} to {last}"
        whole = duration(sum(column[index] for column in heights.values()))
        for phase, column in heights.items():
            height = column[index] / tallest * _HEIGHT
            if height < _SMALLEST_HEIGHT:
                continue
            base -= height
            parts.append(
                f'<rect class="{color_of(phase)}" x="{index * wide:.1f}" y="{base:.1f}" '
                f'width="{wide * 0.86:.1f}" height="{height:.1f}"><title>{where}: {phase} {duration(column[index])} '
                f"of {whole}</title></rect>"
            )
    return (
        f'<svg class="phasecolumns" viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="Seconds of each step by phase, at most {duration(tallest)}">{"".join(parts)}</svg>'
    )


def _spent(run: Run, phase: str) -> Array:
    """Return a phase's seconds in each step, 0 where they are not logged or make no sense. Shape [K]."""
    return np.maximum(np.nan_to_num(run.seconds[phase].finite().at(run.steps)), 0)
