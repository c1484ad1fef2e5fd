"""The policy drifts from the reference without learning by it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple

import numpy as np

from orz_cli.findings import Severity
from orz_monitor.findings import Cause, Evidence, Finding, Sighting, milder
from orz_monitor.frameworks import framework_of
from orz_monitor.presets import kl_term
from orz_monitor.rules.base import Rule, limit
from orz_monitor.rules.levels import before_and_during, pause, recovered
from orz_monitor.rules.progress import Progress, progress
from orz_monitor.rules.stretches import stretches
from orz_monitor.run import Run
from orz_monitor.series import Series
from orz_monitor.stats import Array, Mask, episodes, persistent, trailing_median, trend
from orz_monitor.units import counted, in_nats, shown

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

    warn_nats: float = limit(
        0.5, "nats a token that are far whatever the start was, and whatever the reward does unless there is no KL term"
    )
    error_nats: float = limit(5.0, "nats a token that are an error whatever the reward does", least="warn_nats")
    factor: float = limit(10.0, "times the run's own level in steps 10 to 30")
    smallest_baseline: float = limit(0.01, "nats a token; a policy that has hardly moved yet gives no scale")
    doubling_steps: int = limit(20, "steps; KL that doubles within them grows exponentially")
    growth: float = limit(3.0, "times the run's own level, from which on KL that doubles so soon is a drift")


class _Growth(NamedTuple):
    """How KL grew before a span: the places where it was still low and was high, its value there, its peak."""

    low: int
    high: int
    before: float
    peak: float
    outcome: Progress


def check(run: Run, limits: Limits) -> list[Sighting]:
    """Find KL that is large, or that grew far beyond its early level, or doubles, while the reward gains nothing.

    What is large counts whatever the reward does, unless nothing is meant to hold the policy.

    A reference that becomes the policy, or a restart with another one, begins a new level.
    """
    found: list[Sighting | None] = []
    baseline = limits.smallest_baseline
    for kl in stretches(run.series("policy/kl_ref"), resets=run.marks("ref_update"), restarts=run.restarts, falls=True):
        if len(kl) >= _OWN_LEVEL:
            early = kl.values[10:30] if len(kl) >= LONG_RUN else kl.values[: max(5, len(kl) // 3)]
            baseline = max(float(np.median(early)), limits.smallest_baseline)
        recent = trailing_median(kl.values, 5)
        raised = recent > limits.growth * baseline
        far = (recent > _far(baseline, limits)) | _since(_doubles(kl, recent, limits.doubling_steps), raised)
        found += [
            _graded(run, kl, baseline, recent, span, limits)
            for span in episodes(persistent(far, 3, 5), join=pause(len(kl)))
        ]
    return [sighting for sighting in found if sighting is not None]


def _far(baseline: float, limits: Limits) -> float:
    """Return the level from which on KL is far: by the run's own level, or whatever that is."""
    return min(limits.factor * baseline, limits.warn_nats)


def _doubles(kl: Series, recent: Array, within: int) -> Mask:
    """Tell which levels are twice those of so many steps before, [K].

    What grows by as much in every step from 0 on does so, too, until twice that time is over: it is waited for longer.
    """
    before = np.searchsorted(kl.steps, kl.steps - within, side="right") - 1
    late = kl.steps - kl.steps[0] >= 3 * within
    return np.asarray(late & (recent > 2 * recent[before]), dtype=np.bool_)


def _since(begun: Mask, lasts: Mask) -> Mask:
    """Tell where something has begun and lasts since, [K]."""
    places = np.arange(len(lasts))
    last_begun, last_over = (np.maximum.accumulate(np.where(mask, places, -1)) for mask in (begun, ~lasts))
    return np.asarray(lasts & (last_begun > last_over), dtype=np.bool_)


def _graded(
    run: Run, kl: Series, baseline: float, recent: Array, span: tuple[int, int], limits: Limits
) -> Sighting | None:
    """Grade one span by its size and by what the reward did while KL grew; None for what is not worth a line."""
    first, last = span
    peak = float(recent[first : last + 1].max())
    high = int(np.argmax(recent[: last + 1] > 0.8 * peak))
    is_far = peak > _far(baseline, limits)
    small = np.flatnonzero(recent[:high] <= peak / (limits.factor if is_far else limits.growth))
    low = int(small[-1]) if len(small) else 0
    outcome = progress(run, int(kl.steps[low]), int(kl.steps[high]))
    if peak > limits.error_nats:
        severity = Severity.ERROR
    elif peak > limits.warn_nats and not (outcome.healthy and _is_free(run)):
        severity = Severity.ERROR if outcome is Progress.FALLING else Severity.WARN
    elif outcome.healthy or (outcome is Progress.UNKNOWN and not is_far):
        return None
    else:
        severity = Severity.WARN
    growth = _Growth(low=low, high=high, before=float(recent[low]), peak=peak, outcome=outcome)
    return Sighting(
        severity=milder(severity) if recovered(run, int(kl.steps[last])) else severity,
        describe=partial(_finding, run, kl, baseline, span, growth, limits),
    )


def _is_free(run: Run) -> bool:
    """Tell whether a run is known to have no KL term: its policy is meant to go where the reward leads it."""
    return kl_term(run.metrics, run.settings, framework_of(run))[0] is False


def _finding(
    run: Run,
    kl: Series,
    baseline: float,
    span: tuple[int, int],
    growth: _Growth,
    limits: Limits,
    severity: Severity,
) -> Finding:
    """Describe one span."""
    begins, ends = int(kl.steps[span[0]]), int(kl.steps[span[1]])
    doubling = _doubling_steps(kl, growth.high)
    pace = f", doubling every {counted(shown(doubling), 'step')}" if doubling < limits.doubling_steps else ""
    return Finding(
        code="kl_drift",
        severity=severity,
        title="The policy drifts far from the reference",
        message=f"KL to the reference grew from {shown(growth.before)} at step {int(kl.steps[growth.low])} to "
        f"{in_nats(growth.peak)} a token{pace}, while the reward is {growth.outcome}.",
        evidence=(
            Evidence(
                metric="policy/kl_ref",
                observed=growth.peak,
                observed_is=f"largest median of 5 steps, {begins} to {ends}",
                baseline=baseline,
                baseline_is=f"median of the early steps, at least {shown(limits.smallest_baseline)}",
            ),
            *(before_and_during(run.series(m), begins, ends) for m in ("reward/mean",) if run.logged(m)),
        ),
        causes=_CAUSES,
        caveat="KL must grow for a policy to learn. It is the growth without reward that costs, and what is "
        "large: without a KL term, `--preset kl-free` or `--preset dapo` makes it a note.",
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
