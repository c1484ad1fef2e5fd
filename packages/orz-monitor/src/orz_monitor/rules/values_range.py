"""The critic predicts values that no response can earn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from orz_cli.findings import Severity
from orz_monitor.findings import Cause, Finding
from orz_monitor.rules.base import PPO_LIKE, Rule, limit
from orz_monitor.rules.levels import before_and_during, recovered, warmup_end
from orz_monitor.run import Run
from orz_monitor.series import Series
from orz_monitor.stats import episodes, persistent
from orz_monitor.units import shown

_CAUSES: Final = (
    Cause(
        what="the critic diverges",
        confirm="`critic/grad_norm` or `critic/loss` grow",
        try_="halve `critic.optimizer.lr`, or set `loss.value_clip=0.2`",
    ),
    Cause(
        what="its head starts from large random weights",
        confirm="the values are far off from the first step and come nearer",
        try_="start the head at 0, or train the critic alone first: raise `policy.freeze_steps`",
    ),
)
_VALUES: Final = ("critic/value_mean", "critic/value_max", "critic/value_min")


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Thresholds."""

    factor: float = limit(5.0, "times the largest reward that was seen")
    hits: int = limit(5, "steps beyond")
    window: int = limit(8, "among so many steps", least="hits")


def check(run: Run, limits: Limits) -> list[Finding]:
    """Find the first span of predicted values far beyond the rewards seen."""
    seen = [run.series(name).values for name in ("reward/mean", "reward/max", "reward/min", "return/mean")]
    largest = max((float(np.abs(values).max()) for values in seen if len(values)), default=0.0)
    if run.logged("reward/std"):  # a mean hides how large single rewards are
        largest += 3 * float(np.median(run.series("reward/std").values))
    bound = limits.factor * max(largest, 0.1)
    for name in _VALUES:
        values = run.series(name).between(warmup_end(run), np.inf)
        spans = episodes(persistent(np.abs(values.values) > bound, limits.hits, limits.window), join=20)
        if spans:
            first, last = spans[0]
            return [_finding(run, values, (max(0, first - limits.hits + 1), last), largest)]
    return []


def _finding(run: Run, values: Series, span: tuple[int, int], largest: float) -> Finding:
    """Describe one span; `largest` is what rewards went up to."""
    first, last = span
    begins, ends = int(values.steps[first]), int(values.steps[last])
    part = values.values[first : last + 1]
    return Finding(
        code="values_range",
        severity=Severity.INFO if recovered(run, ends) else Severity.WARN,
        title="Values beyond any reward",
        message=f"{values.name} was {shown(float(part[int(np.argmax(np.abs(part)))]))} in the steps {begins} to "
        f"{ends}; rewards went up to {shown(largest)}.",
        evidence=(before_and_during(values, begins, ends),),
        causes=_CAUSES,
        caveat="Where rewards add up over turns, or are scaled before the critic sees them, values may go beyond them.",
        first_step=begins,
        last_step=ends,
    )


RULE = Rule(
    code="values_range",
    title="the critic predicts possible values",
    check=check,
    limits=Limits(),
    needs=("reward/mean",),
    needs_any=_VALUES,
    min_points=10,
    presets=PPO_LIKE,
    worst=Severity.WARN,
    source="values of -16 to 14 for rewards of 0 and 1 were seen in public runs whose critic had failed",
)
