"""Responses get no score: the reward function times out or raises."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np

from orz_cli.findings import Severity
from orz_monitor.findings import Cause, Finding, Sighting, milder
from orz_monitor.rules.base import Rule, limit
from orz_monitor.rules.levels import Exceedance, before_and_during, exceedances, recovered
from orz_monitor.run import Run
from orz_monitor.series import Series
from orz_monitor.stats import episodes
from orz_monitor.units import shown

_TIMEOUTS, _ERRORS = "reward/timeout_frac", "reward/error_frac"
METRICS: Final = ("reward/unscored_frac", _TIMEOUTS, _ERRORS)
_TIMEOUT: Final = Cause(
    what="the reward function runs into its time limit",
    confirm="`reward/timeout_frac` is most of it, and `seconds.reward` rose",
    try_="raise `reward.timeout_s`, raise `reward.workers`, or make the function faster",
)
_ERROR: Final = Cause(
    what="the reward function raises, or returns something that is no finite number",
    confirm="`reward/error_frac` is most of it; `facts` in rollouts/*.parquet has the exception of each response, and "
    "metrics.jsonl and console.log have a `warning` that quotes the first for each step without any score",
    try_="fix the exception; `reward.function` must return a number for any text",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Thresholds."""

    warn_frac: float = limit(0.05, "of the responses")
    error_frac: float = limit(0.5, "of the responses that are an error", least="warn_frac")


def check(run: Run, limits: Limits) -> list[Sighting]:
    """Find spans in which more than one response in twenty has no score, and steps in which none has one."""
    logged = [name for name in METRICS if run.logged(name)]
    # the first metric that shows it covers the others
    spans = next((found for name in logged if (found := _spans(run.series(name), limits))), [])
    return [
        Sighting(
            severity=milder(span.severity) if recovered(run, span.last_step) else span.severity,
            describe=partial(_finding, run, span, logged, limits),
        )
        for span in spans
    ]


def _spans(series: Series, limits: Limits) -> list[Exceedance]:
    """Find spans that last, and the steps outside of them in which no response has a score."""
    hits = min(3, len(series))  # in a run of one or two steps nothing can last longer
    lasting = exceedances(series, warn=limits.warn_frac, error=limits.error_frac, hits=hits, window=5)
    alone = series.values >= 1
    for span in lasting:
        alone &= (series.steps < span.first_step) | (series.steps > span.last_step)
    steps = series.steps
    lone = [Exceedance(int(steps[a]), int(steps[b]), 1.0, Severity.WARN) for a, b in episodes(alone, join=1)]
    return sorted([*lasting, *lone])


def _finding(run: Run, span: Exceedance, logged: list[str], limits: Limits, severity: Severity) -> Finding:
    """Describe one span."""
    first, last = span.first_step, span.last_step
    where = f"in the steps {first} to {last}" if last > first else f"in step {first}"
    return Finding(
        code="reward_unscored",
        severity=severity,
        title="Responses without a score",
        message=f"{shown(100 * span.typical)} % of the responses got no score {where}.",
        evidence=tuple(before_and_during(run.series(name), first, last) for name in logged),
        causes=_causes(run, span),
        caveat="" if span.typical > limits.error_frac else "A few time-outs a step are usual with symbolic answers.",
        first_step=first,
        last_step=last,
    )


def _causes(run: Run, span: Exceedance) -> tuple[Cause, ...]:
    """Return the causes that occurred in a span, the more frequent first; both where neither is logged."""
    shares = {
        cause: float(np.sum(run.series(name).between(span.first_step, span.last_step).values))
        for cause, name in ((_TIMEOUT, _TIMEOUTS), (_ERROR, _ERRORS))
    }
    seen = [cause for cause in shares if shares[cause] > 0] or list(shares)
    return tuple(sorted(seen, key=lambda cause: -shares[cause]))


RULE = Rule(
    code="reward_unscored",
    title="responses get a score",
    check=check,
    limits=Limits(),
    needs_any=METRICS,
)
