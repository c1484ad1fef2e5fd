"""The key-value cache is full while requests wait, or requests are put back for want of room."""

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
        what="more sequences at once than the cache holds; some are put back and start again",
        confirm="`engine/preemptions` is above 0 in most steps",
        try_="lower `generation.max_sequences`, or give the engine more of the device's memory",
    ),
    Cause(
        what="responses have grown",
        confirm="`rollout/response_tokens_mean` rose",
        try_="add engines, or lower `generation.max_response_tokens`",
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Thresholds."""

    usage: float = limit(0.95, "of the cache")
    hits: int = limit(5, "steps above; lines, in a log of the engine alone")
    window: int = limit(5, "among so many of them", least="hits")
    put_back: float = limit(0.05, "of the running requests, put back between two lines; fewer cost little")
    put_back_window: int = limit(8, "steps or lines, among which `hits` have so many put back", least="hits")


def check(run: Run, limits: Limits) -> list[Sighting]:
    """Find spans of a full cache with requests that wait; else spans in which requests are put back."""
    return _full(run, limits) or _put_back(run, limits)


def _full(run: Run, limits: Limits) -> list[Sighting]:
    """Find spans of a full cache with requests that wait."""
    usage = run.series("engine/kv_cache_usage")
    waiting = run.series("engine/requests_waiting").at(usage.steps)
    full = (usage.values > limits.usage) & ~(waiting <= 0) & np.isfinite(waiting)
    found = []
    for first, last in episodes(persistent(full, limits.hits, limits.window), join=20):
        begins, ends = int(usage.steps[max(0, first - limits.hits + 1)]), int(usage.steps[last])
        what = f"The key-value cache was more than {shown(100 * limits.usage)} % full while requests waited"
        found.append(_sighting(run, "The key-value cache is full", what, (begins, ends)))
    return found


def _put_back(run: Run, limits: Limits) -> list[Sighting]:
    """Find spans in which many requests are put back, whatever else is known; a line without a count has none."""
    series = run.series("engine/preemptions")
    steps = np.union1d(series.steps, run.series("engine/kv_cache_usage").steps)
    counts = np.nan_to_num(series.at(steps))
    running = np.nan_to_num(run.series("engine/requests_running").at(steps))
    many = (counts > 0) & (counts > limits.put_back * running)
    found = []
    for first, last in episodes(persistent(many, limits.hits, limits.put_back_window), join=20):
        start = max(0, first - limits.put_back_window + 1)
        start += int(np.argmax(many[start : first + 1]))
        begins, ends = int(steps[start]), int(steps[last])
        usual = float(np.median(counts[start : last + 1]))
        what = f"The engine put requests back for want of room, {shown(usual)} between two of its lines"
        found.append(_sighting(run, "Requests are put back", what, (begins, ends)))
    return found


def _sighting(run: Run, title: str, what: str, span: tuple[int, int]) -> Sighting:
    """Grade a span: a note where it is over."""
    severity = milder(Severity.WARN) if recovered(run, span[1]) else Severity.WARN
    return Sighting(severity=severity, describe=partial(_finding, run, title, what, span))


def _finding(run: Run, title: str, what: str, span: tuple[int, int], severity: Severity) -> Finding:
    """Describe one span."""
    names = ("engine/kv_cache_usage", "engine/requests_waiting", "engine/preemptions")
    begins, ends = span
    return Finding(
        code="kv_full",
        severity=severity,
        title=title,
        message=f"{what}, in {counted_in(run)} {begins} to {ends}.",
        evidence=tuple(before_and_during(run.series(name), begins, ends) for name in names if run.logged(name)),
        causes=_CAUSES,
        caveat="A full cache without requests that are put back is good use of it.",
        first_step=begins,
        last_step=ends,
    )


RULE = Rule(
    code="kv_full",
    title="the key-value cache has room",
    check=check,
    limits=Limits(),
    needs_any=("engine/kv_cache_usage", "engine/preemptions"),
    min_points=5,
    worst=Severity.WARN,
    source="preempted requests are generated twice",
)
