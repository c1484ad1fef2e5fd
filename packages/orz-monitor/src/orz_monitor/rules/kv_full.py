"""The key-value cache is full while requests wait."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np

from orz_cli.findings import Severity
from orz_monitor.findings import Cause, Finding, Sighting, milder
from orz_monitor.rules.base import Rule, limit
from orz_monitor.rules.levels import before_and_during, recovered
from orz_monitor.run import Run
from orz_monitor.stats import episodes, persistent
from orz_monitor.units import shown

_CAUSES: Final = (
    Cause(
        what="more sequences at once than the cache holds; some are put back and start again",
        confirm="`engine/preemptions` grows",
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
    window: int = limit(5, "among so many of them")


def check(run: Run, limits: Limits) -> list[Sighting]:
    """Find spans of a full cache with requests that wait."""
    usage = run.series("engine/kv_cache_usage")
    waiting = run.series("engine/requests_waiting").at(usage.steps)
    full = (usage.values > limits.usage) & ~(waiting <= 0) & np.isfinite(waiting)
    found = []
    for first, last in episodes(persistent(full, limits.hits, limits.window), join=20):
        begins, ends = int(usage.steps[max(0, first - limits.hits + 1)]), int(usage.steps[last])
        describe = partial(_finding, run, begins, ends, limits)
        severity = milder(Severity.WARN) if recovered(run, ends) else Severity.WARN
        found.append(Sighting(severity=severity, describe=describe))
    return found


def _finding(run: Run, begins: int, ends: int, limits: Limits, severity: Severity) -> Finding:
    """Describe one span."""
    names = ("engine/kv_cache_usage", "engine/requests_waiting", "engine/preemptions")
    return Finding(
        code="kv_full",
        severity=severity,
        title="The key-value cache is full",
        message=f"The key-value cache was more than {shown(100 * limits.usage)} % full while requests waited, "
        f"in the steps {begins} to {ends}.",
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
    needs=("engine/kv_cache_usage", "engine/requests_waiting"),
    min_points=5,
    worst=Severity.WARN,
    source="preempted requests are generated twice",
)
