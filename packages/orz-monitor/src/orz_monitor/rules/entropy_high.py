"""Entropy climbs back, away from where the policy had settled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from orz_cli.findings import Severity
from orz_monitor.findings import Cause, Evidence, Finding
from orz_monitor.rules.base import Rule, limit
from orz_monitor.rules.levels import before_and_during, warmup_end
from orz_monitor.rules.progress import Progress, progress
from orz_monitor.run import Run
from orz_monitor.stats import trailing_median, trend
from orz_monitor.units import shown

_CAUSES: Final = (
    Cause(
        what="the entropy bonus outweighs the reward",
        confirm="`loss.entropy_coef` is above 0",
        try_="set `loss.entropy_coef=0`, or a tenth of it",
    ),
    Cause(
        what="asymmetric clipping keeps pushing unlikely tokens up",
        confirm="`loss.clip_high` is above `loss.clip_low` and `policy/clip_frac` rises too",
        try_="lower `loss.clip_high` to 0.2",
    ),
    Cause(
        what="overlong, rambling samples dominate the update",
        confirm="`rollout/truncated_frac` or `rollout/repetition` rise with entropy",
        try_="set `advantage.truncation=mask`, or raise `generation.max_response_tokens`",
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Thresholds."""

    factor: float = limit(2.0, "times the lowest entropy after the warm-up")
    smallest: float = limit(0.1, "nats; below, a doubling is of no consequence")
    span: int = limit(30, "steps over which it must rise")


def check(run: Run, limits: Limits) -> list[Finding]:
    """Tell whether entropy has been rising for 30 steps to more than twice its minimum."""
    entropy = run.series("policy/entropy").between(warmup_end(run), np.inf)
    if len(entropy) < limits.span:
        return []
    recent = trailing_median(entropy.values, 5)
    lowest = int(np.argmin(recent))
    after, floor = float(recent[-1]), float(recent[lowest])
    risen = after > max(limits.factor * floor, limits.smallest)
    begins = int(entropy.steps[max(lowest, 0)])
    ends = int(entropy.steps[-1])
    tail = entropy.between(entropy.steps[-limits.span], ends)
    drift = trend(tail.steps, tail.values)
    if not risen or len(entropy) - lowest < limits.span or drift.slope <= 0 or not drift.significant:
        return []
    outcome = progress(run, begins, ends)
    if outcome.healthy:
        return []
    return [
        Finding(
            code="entropy_high",
            severity=Severity.ERROR if outcome is Progress.FALLING else Severity.WARN,
            title="Entropy climbs",
            message=f"Entropy rose from {shown(floor)} at step {begins} to {shown(after)} nats at step {ends} "
            f"while the reward is {outcome}.",
            evidence=(
                Evidence(
                    metric="policy/entropy",
                    observed=after,
                    observed_is=f"median of 5 steps to {ends}",
                    baseline=floor,
                    baseline_is=f"its minimum, at step {begins}",
                ),
                *(before_and_during(run.series(m), begins, ends) for m in ("reward/mean",) if run.logged(m)),
            ),
            causes=_CAUSES,
            caveat="A rise below 1 nat with which the reward rises is exploration.",
            first_step=begins,
            last_step=ends,
        )
    ]


RULE = Rule(
    absorbs=frozenset({"ramp"}),
    code="entropy_high",
    title="entropy does not climb without reward",
    check=check,
    limits=Limits(),
    needs=("policy/entropy",),
    min_points=40,
)
