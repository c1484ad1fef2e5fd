"""Sampler and trainer disagree about the log-probs of the same tokens."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from orz_cli.findings import Severity
from orz_monitor.findings import Cause, Evidence, Finding, milder
from orz_monitor.rules.base import Rule, limit
from orz_monitor.rules.drift import CAUSES as DRIFT
from orz_monitor.rules.levels import Exceedance, Growth, before_and_during, exceedances, growth, recovered
from orz_monitor.run import Run
from orz_monitor.series import Series
from orz_monitor.units import shown

_METRIC: Final = "mismatch/logprob_abs_mean"
_OF_PROBABILITIES: Final = "mismatch/prob_abs_mean"
"""What verl logs instead. No probability is above 1, so that it is never larger than the gap of log-probs: what is too
large for that is too large for it."""
_CAUSES: Final = (
    Cause(
        what="the sampler runs with stale or wrongly loaded weights",
        confirm="the gap is there from the first synchronisation on; `sync/version` does not advance, or the model "
        "ties its embeddings and only the head is stale",
        try_="run one step with `policy.optimizer.lr` at 1e-12: a gap that stays is a loading fault, not staleness",
    ),
    Cause(
        what="sampler and trainer do not sample from the same distribution",
        confirm="`generation.top_p` is below 1, `generation.top_k` is set, or the temperatures differ",
        try_="set `generation.top_p=1.0` and `generation.top_k=-1`",
    ),
    Cause(
        what="different numerics in half precision",
        confirm="the gap shrinks with `policy.dtype=float32`",
        try_="set `policy.dtype=float32` on both sides",
    ),
)
_CAVEATS: Final = {
    _METRIC: "A few tail tokens can dominate the mean; `mismatch/kl_k3` weighs them less.",
    _OF_PROBABILITIES: "Experts that are routed otherwise differ more. The gap of log-probs is at least as large.",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Thresholds."""

    warn_nats: float = limit(0.05, "nats a token")
    error_nats: float = limit(0.2, "nats a token that are an error", least="warn_nats")
    growth: float = limit(10.0, "times its first level, over the run")
    smallest: float = limit(0.01, "nats; growth below this is rounding")
    beyond_doubt: float = limit(10.0, "times the limit that the run has stated; a gap beyond is an error")


def check(run: Run, limits: Limits) -> list[Finding]:
    """Find spans of a large gap, or one that has grown tenfold; one that has grown so to what is large is an error.

    What is large depends on the precision, which the metrics do not tell. A run that has warned of its gap has named
    the limit of its precision: that holds where it is stricter than ours, and for single steps too.
    """
    gap = run.series(_METRIC if run.logged(_METRIC) else _OF_PROBABILITIES)
    stated = _stated_limit(run)
    warn, error = min(stated, limits.warn_nats), min(limits.beyond_doubt * stated, limits.error_nats)
    hits, window = (3, 5) if math.isinf(stated) else (1, 1)
    spans = exceedances(gap, warn=warn, error=error, hits=hits, window=window)
    grown = growth(gap, limits.growth, limits.smallest)
    if not spans:
        return [_growth_finding(gap, grown, limits)] if grown is not None else []
    if grown is not None and spans[-1].last_step == grown.last_step:
        spans[-1] = spans[-1]._replace(severity=Severity.ERROR)
    return [_finding(run, gap, span, warn, limits) for span in spans]


def _stated_limit(run: Run) -> float:
    """Return the smallest limit of the gap that the run's warnings name; infinite if they name none."""
    return min(
        (
            float(size)
            for event in run.events
            if event.event == "warning" and event.data.get("metric") == _METRIC
            if isinstance(size := event.data.get("limit"), int | float) and size > 0
        ),
        default=math.inf,
    )


def _finding(run: Run, gap: Series, span: Exceedance, warn: float, limits: Limits) -> Finding:
    """Describe a span in which the gap is large."""
    what, unit = _words(gap)
    grown = growth(gap, limits.growth, limits.smallest)
    since = f" It was {shown(grown.start)} at first." if grown is not None else ""
    return Finding(
        code="mismatch",
        severity=milder(span.severity) if recovered(run, span.last_step) else span.severity,
        title="Sampler and trainer disagree",
        message=f"The mean {what} between sampler and trainer was {shown(span.typical)}{unit} a token "
        f"in the steps {span.first_step} to {span.last_step}; {_yardstick(warn, limits)}.{since}",
        evidence=(before_and_during(gap, span.first_step, span.last_step),),
        causes=_CAUSES,
        caveat=_CAVEATS[gap.name],
        first_step=span.first_step,
        last_step=span.last_step,
    )


def _growth_finding(gap: Series, grown: Growth, limits: Limits) -> Finding:
    """Describe a gap that is not large and has grown, by the levels that it led from and to."""
    what, unit = _words(gap)
    return Finding(
        code="mismatch",
        severity=Severity.WARN,
        title="Sampler and trainer drift apart",
        message=f"The mean {what} between sampler and trainer grew from {shown(grown.start)} to {shown(grown.end)}"
        f"{unit} a token over the run, more than {shown(limits.growth)} times.",
        evidence=(
            Evidence(
                metric=gap.name,
                observed=grown.end,
                observed_is=f"median of the last 10 values, to step {grown.last_step}",
                baseline=grown.start,
                baseline_is="median of the first 10",
            ),
        ),
        causes=DRIFT,
        caveat=_CAVEATS[gap.name],
        first_step=grown.first_step,
        last_step=grown.last_step,
    )


def _words(gap: Series) -> tuple[str, str]:
    """Return what the gap is one of, and its unit."""
    return ("log-prob gap", " nats") if gap.name == _METRIC else ("probability gap", "")


def _yardstick(warn: float, limits: Limits) -> str:
    """Say what the gap is compared with."""
    if warn < limits.warn_nats:
        return f"the run's precision explains {shown(warn)}"
    return f"about 0.01 is usual, {shown(limits.warn_nats)} biases updates"


RULE = Rule(
    absorbs=frozenset({"ramp"}),
    code="mismatch",
    title="sampler and trainer agree",
    check=check,
    limits=Limits(),
    needs_any=(_METRIC, _OF_PROBABILITIES),
)
