"""Single steps that took far longer than the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from orz_cli.findings import Severity
from orz_monitor.findings import Cause, Evidence, Finding
from orz_monitor.records import PHASES
from orz_monitor.rules.base import Rule, limit
from orz_monitor.run import Run
from orz_monitor.units import duration, shown

_CAUSES: Final = (
    Cause(
        what="the disk or network held the step up",
        confirm="the phase named is `save` or `sync`",
        try_="save less often: raise `checkpoint.every_steps`; or save to a local disk",
    ),
    Cause(
        what="rewards were slow",
        confirm="the phase named is `reward`",
        try_="lower `reward.timeout_s`, or raise `reward.workers`",
    ),
    Cause(
        what="the machine was suspended or shared",
        confirm="no phase stands out, or all of them grew",
        try_="compare with what else ran there at that time",
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Thresholds."""

    factor: float = limit(10.0, "times the median step")
    shortest_s: float = limit(600.0, "seconds lost; shorter delays are not worth a line")


def check(run: Run, limits: Limits) -> list[Finding]:
    """Find gaps of ten usual steps and ten minutes between two records, restarts aside."""
    times = run.times.finite()
    gaps = np.diff(times.values)
    if not len(gaps):
        return []
    usual = float(np.median(gaps))
    restarts = set(run.restarts)
    slow = [
        index
        for index in np.flatnonzero((gaps > limits.factor * usual) & (gaps > limits.shortest_s))
        if int(times.steps[index + 1]) not in restarts
    ]
    if not slow:
        return []
    worst = max(slow, key=lambda index: float(gaps[index]))
    step = int(times.steps[worst + 1])
    phase = _grown_phase(run, step, float(gaps[worst]) - usual)
    count = "One step" if len(slow) == 1 else f"{len(slow)} steps"
    return [
        Finding(
            code="slow_step",
            severity=Severity.WARN,
            title="Steps that took very long",
            message=f"{count} took more than {shown(limits.factor)} times the usual {duration(usual)}; the longest, "
            f"step {step}, took {duration(float(gaps[worst]))}" + (f", most of it in {phase}." if phase else "."),
            evidence=(
                Evidence(
                    metric="seconds between records",
                    observed=float(gaps[worst]),
                    observed_is=f"before step {step}",
                    baseline=usual,
                    baseline_is="median",
                ),
            ),
            causes=_CAUSES,
            caveat="The run went on; this is time lost, not harm done.",
            first_step=int(times.steps[slow[0] + 1]),
            last_step=int(times.steps[slow[-1] + 1]),
        )
    ]


def _grown_phase(run: Run, step: int, lost_s: float) -> str:
    """Name the phase in which a step lost most of its time, against the other steps; empty where none tells."""
    grown: dict[str, float] = {}
    for phase in PHASES:
        if phase == "total" or phase not in run.seconds:
            continue
        series = run.seconds[phase].finite()
        here, elsewhere = series.values[series.steps == step], series.values[series.steps != step]
        if len(here):
            grown[phase] = float(here[0]) - (float(np.median(elsewhere)) if len(elsewhere) else 0.0)
    worst = max(grown, key=lambda phase: grown[phase], default="")
    return worst if worst and grown[worst] > lost_s / 2 else ""


RULE = Rule(code="slow_step", title="no step takes far longer than the others", check=check, limits=Limits())
