"""Single steps that took far longer than the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from orz_cli.findings import Severity
from orz_monitor.findings import Cause, Evidence, Finding
from orz_monitor.rules.base import Rule, limit
from orz_monitor.rules.grown_phases import grown_in_step
from orz_monitor.rules.step_times import BETWEEN, HOW_TO_TIME, by_clock, lacks_times
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
    """Find steps of ten usual ones and ten minutes; by the trainer's seconds where records have no times."""
    taken = by_clock(run)
    if not len(taken):
        return []
    usual = float(np.median(taken.values))
    slow = np.flatnonzero((taken.values > limits.factor * usual) & (taken.values > limits.shortest_s)).tolist()
    if not slow:
        return []
    worst = max(slow, key=lambda index: float(taken.values[index]))
    step, longest_s = int(taken.steps[worst]), float(taken.values[worst])
    phase = grown_in_step(run, step, longest_s - usual)
    count = "One step" if len(slow) == 1 else f"{len(slow)} steps"
    return [
        Finding(
            code="slow_step",
            severity=Severity.WARN,
            title="Steps that took very long",
            message=f"{count} took more than {shown(limits.factor)} times the usual {duration(usual)}; the longest, "
            f"step {step}, took {duration(longest_s)}" + (f", most of it in {phase}." if phase else "."),
            evidence=(
                Evidence(
                    metric=taken.name,
                    observed=longest_s,
                    observed_is=f"before step {step}" if taken.name == BETWEEN else f"step {step}",
                    baseline=usual,
                    baseline_is="median",
                ),
            ),
            causes=_CAUSES,
            caveat="The run went on; this is time lost, not harm done.",
            first_step=int(taken.steps[slow[0]]),
            last_step=int(taken.steps[slow[-1]]),
        )
    ]


RULE = Rule(
    code="slow_step",
    title="no step takes far longer than the others",
    check=check,
    limits=Limits(),
    lacks=lacks_times,
    remedy=HOW_TO_TIME,
    source="the clock of the records tells, and where they have no times the trainer's own seconds, of which the first "
    "step and the first one after a restart are left out, as they load and compile, too",
)
