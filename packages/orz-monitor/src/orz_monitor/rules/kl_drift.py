"""The policy drifts from the reference without learning by it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from orz_cli.findings import Severity
from orz_monitor.findings import Cause, Evidence, Finding, milder
from orz_monitor.rules.base import Rule, limit
from orz_monitor.rules.levels import before_and_during, pause, recovered
from orz_monitor.rules.progress import Progress, progress
from orz_monitor.rules.stretches import stretches
from orz_monitor.run import Run
from orz_monitor.series import Series
from orz_monitor.stats import Array, episodes, persistent, trailing_median, trend
from orz_monitor.units import shown

LONG_RUN: Final = 60
"""Steps; a shorter run's early level is that of its first third."""
_OWN_LEVEL: Final = 10
"""Steps with one reference; fewer have no level of their own, and that of the reference before serves."""
_CAUSES: Final = (
    Cause(
        what="the learning rate is too high for this KL coefficient",
        confirm="`policy/kl_old` and `policy/grad_norm` rise together with it",
        try_="halve `policy.optimizer.lr`, then try five times `kl.loss_coef`; resume from before the drift",
    ),
    Cause(
        what="a few outlier tokens: estimator k3 is exponential in their log ratio",
        confirm="`policy/kl_ref` jumps while `policy/entropy` and `rollout/response_tokens_mean` stay",
        try_="set `kl.estimator=k2`",
    ),
    Cause(
        what="the reference is not the model the policy started from",
        confirm="`policy/kl_ref` was not about 0 in the first step",
        try_="check `reference.model` against `policy.model`, and the template",
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Thresholds."""

    warn_nats: float = limit(0.5, "nats a token that are far whatever the start was")
    error_nats: float = limit(5.0, "nats a token that are an error whatever the reward does")
    factor: float = limit(10.0, "times the run's own level in steps 10 to 30")
    smallest_baseline: float = limit(0.01, "nats a token; a policy that has hardly moved yet gives no scale")
    doubling_steps: int = limit(20, "steps; KL that doubles within them is said to")


def check(run: Run, limits: Limits) -> list[Finding]:
    """Find KL that is very large, or has grown far beyond its own early level while the reward gained nothing.

    A reference that becomes the policy, or a restart with another one, begins a new level.
    """
    found: list[Finding | None] = []
    baseline = limits.smallest_baseline
    for kl in stretches(run.series("policy/kl_ref"), resets=run.marks("ref_update"), restarts=run.restarts, falls=True):
        if len(kl) >= _OWN_LEVEL:
            early = kl.values[10:30] if len(kl) >= LONG_RUN else kl.values[: max(5, len(kl) // 3)]
            baseline = max(float(np.median(early)), limits.smallest_baseline)
        recent = trailing_median(kl.values, 5)
        far = (recent > limits.factor * baseline) | (recent > limits.warn_nats)
        found += [
            _finding(run, kl, baseline, recent, span, limits)
            for span in episodes(persistent(far, 3, 5), join=pause(len(kl)))
        ]
    return [finding for finding in found if finding is not None]


def _finding(
    run: Run, kl: Series, baseline: float, recent: Array, span: tuple[int, int], limits: Limits
) -> Finding | None:
    """Describe one span, graded by its size and by what the reward did while KL grew."""
    first, last = span
    begins, ends = int(kl.steps[first]), int(kl.steps[last])
    peak = float(recent[first : last + 1].max())
    high = int(np.argmax(recent[: last + 1] > 0.8 * peak))
    small = np.flatnonzero(recent[:high] <= peak / limits.factor)
    low = int(small[-1]) if len(small) else 0
    outcome = progress(run, int(kl.steps[low]), int(kl.steps[high]))
    if peak > limits.error_nats:
        severity = Severity.ERROR
    elif outcome.healthy:
        return None
    else:
        severity = Severity.ERROR if outcome is Progress.FALLING and peak > limits.warn_nats else Severity.WARN
    doubling = _doubling_steps(kl, high)
    growth = f", doubling every {shown(doubling)} steps" if doubling < limits.doubling_steps else ""
    return Finding(
        code="kl_drift",
        severity=milder(severity) if recovered(run, ends) else severity,
        title="The policy drifts far from the reference",
        message=f"KL to the reference grew from {shown(float(recent[low]))} at step {int(kl.steps[low])} to "
        f"{shown(peak)} nats a token{growth}, while the reward is {outcome}.",
        evidence=(
            Evidence(
                metric="policy/kl_ref",
                observed=peak,
                observed_is=f"largest median of 5 steps, {begins} to {ends}",
                baseline=baseline,
                baseline_is="median of the early steps, at least 0.01",
            ),
            *(before_and_during(run.series(m), begins, ends) for m in ("reward/mean",) if run.logged(m)),
        ),
        causes=_CAUSES,
        caveat="KL must grow for a policy to learn. It is the growth without reward that costs.",
        first_step=begins,
        last_step=ends,
    )


def _doubling_steps(kl: Series, last: int) -> float:
    """Return the steps in which KL doubled over the last 20 of a span; infinity where it did not grow."""
    part = slice(max(0, last - 19), last + 1)
    values = kl.values[part]
    growth = trend(kl.steps[part][values > 0], np.log(values[values > 0]))
    return math.log(2) / growth.slope if growth.slope > 0 and growth.significant else math.inf


RULE = Rule(
    code="kl_drift",
    title="KL to the reference stays in proportion to the reward gained",
    check=check,
    limits=Limits(),
    needs=("policy/kl_ref",),
    min_points=10,
    absorbs=frozenset({"ramp", "kl_spike"}),
)
