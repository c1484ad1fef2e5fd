"""The engine generates next to nothing although requests wait."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np

from orz_cli.findings import Severity
from orz_monitor.findings import Cause, Finding, Sighting, milder
from orz_monitor.rules.base import Rule, limit
from orz_monitor.rules.levels import before_and_during, counted_in, recovered
from orz_monitor.run import Run
from orz_monitor.stats import episodes, persistent
from orz_monitor.units import shown

_CAUSES: Final = (
    Cause(
        what="the engine is stuck: a scheduler that puts back what it starts, or a device that hangs",
        confirm="`engine/preemptions` is above 0 there, or `nvidia-smi` shows full use without progress",
        try_="lower `generation.max_sequences`; restart the engine",
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Thresholds."""

    share: float = limit(0.05, "of the run's median rate")
    hits: int = limit(6, "steps below; lines, in a log of the engine alone")
    window: int = limit(6, "among so many of them", least="hits")


def check(run: Run, limits: Limits) -> list[Sighting]:
    """Find spans of a rate far below the run's own while requests wait."""
    rate = run.series("engine/generation_tokens_per_second")
    waiting = run.series("engine/requests_waiting").at(rate.steps)
    busy = rate.values[rate.values > 0]
    usual = float(np.median(busy)) if len(busy) else 0.0
    slow = (rate.values < limits.share * usual) & (waiting > 0)
    found = []
    for first, last in episodes(persistent(slow, limits.hits, limits.window), join=20):
        begins, ends = int(rate.steps[max(0, first - limits.hits + 1)]), int(rate.steps[last])
        describe = partial(_finding, run, (begins, ends), (limits.share * usual, usual))
        severity = milder(Severity.WARN) if recovered(run, ends) else Severity.WARN
        found.append(Sighting(severity=severity, describe=describe))
    return found


def _finding(run: Run, span: tuple[int, int], levels: tuple[float, float], severity: Severity) -> Finding:
    """Describe one span; `levels` are the rate that is too low and the usual one."""
    (begins, ends), (low, usual) = span, levels
    rate = run.series("engine/generation_tokens_per_second")
    return Finding(
        code="generation_starved",
        severity=severity,
        title="Generation has all but stopped",
        message=f"The engine generated less than {shown(low)} tokens a second while requests waited, "
        f"in {counted_in(run)} {begins} to {ends}; {shown(usual)} is usual.",
        evidence=(before_and_during(rate, begins, ends),),
        causes=_CAUSES,
        caveat="An engine that wakes from sleep or takes new weights generates nothing for a moment, too.",
        first_step=begins,
        last_step=ends,
    )


RULE = Rule(
    code="generation_starved",
    title="the engine generates while requests wait",
    check=check,
    limits=Limits(),
    needs=("engine/generation_tokens_per_second", "engine/requests_waiting"),
    min_points=6,
    worst=Severity.WARN,
    source="a rate of nothing with requests waiting is an engine that is stuck",
)
