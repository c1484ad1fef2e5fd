"""Sampler and trainer disagree about the log-probs of the same tokens."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from orz_cli.findings import Severity
from orz_monitor.findings import Cause, Finding, milder
from orz_monitor.rules.base import Rule
from orz_monitor.rules.levels import Exceedance, before_and_during, exceedances, recovered
from orz_monitor.rules.progress import level
from orz_monitor.run import Run
from orz_monitor.series import Series
from orz_monitor.units import shown

WARN_NATS: Final = 0.05
ERROR_NATS: Final = 0.2
GROWTH: Final = 10.0
"""Times its first level, over the run."""
SMALLEST: Final = 0.01
"""Nats; growth below this is rounding."""
BEYOND_DOUBT: Final = 10.0
"""Times the limit that the run has stated; a gap beyond is an error."""
_METRIC: Final = "mismatch/logprob_abs_mean"
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


def check(run: Run) -> list[Finding]:
    """Find spans of a large gap, or one that has grown tenfold.

    What is large depends on the precision, which the metrics do not tell. A run that has warned of its gap has named
    the limit of its precision: that holds where it is stricter than ours, and for single steps too.
    """
    gap = run.series(_METRIC)
    limit = _stated_limit(run)
    warn, error = min(limit, WARN_NATS), min(BEYOND_DOUBT * limit, ERROR_NATS)
    hits, window = (3, 5) if math.isinf(limit) else (1, 1)
    spans = exceedances(gap, warn=warn, error=error, hits=hits, window=window)
    return [_finding(run, gap, span, warn) for span in spans or _growth(gap)]


def _stated_limit(run: Run) -> float:
    """Return the smallest limit of the gap that the run's warnings name; infinite if they name none."""
    return min(
        (
            float(limit)
            for event in run.events
            if event.event == "warning" and event.data.get("metric") == _METRIC
            if isinstance(limit := event.data.get("limit"), int | float) and limit > 0
        ),
        default=math.inf,
    )


def _growth(gap: Series) -> list[Exceedance]:
    """Tell whether the gap has grown tenfold since its first level."""
    if len(gap) < 20:  # noqa: PLR2004 - a level at either end
        return []
    start, end = max(level(gap.values, at_end=False), SMALLEST / GROWTH), level(gap.values, at_end=True)
    if end <= GROWTH * start or end <= SMALLEST:
        return []
    begins = int(gap.steps[int(np.argmax(gap.values > GROWTH * start))])
    return [Exceedance(begins, int(gap.steps[-1]), end, Severity.WARN)]


def _finding(run: Run, gap: Series, span: Exceedance, limit: float) -> Finding:
    """Describe one span."""
    return Finding(
        code="mismatch",
        severity=milder(span.severity) if recovered(run, span.last_step) else span.severity,
        title="Sampler and trainer disagree",
        message=f"The mean log-prob gap between sampler and trainer was {shown(span.typical)} nats a token "
        f"in the steps {span.first_step} to {span.last_step}; {_yardstick(limit)}.",
        evidence=(before_and_during(gap, span.first_step, span.last_step),),
        causes=_CAUSES,
        caveat="A few tail tokens can dominate the mean; `mismatch/kl_k3` weighs them less.",
        first_step=span.first_step,
        last_step=span.last_step,
    )


def _yardstick(limit: float) -> str:
    """Say what the gap is compared with."""
    if limit < WARN_NATS:
        return f"the run's precision explains {shown(limit)}"
    return f"about 0.01 is usual, {WARN_NATS} biases updates"


RULE = Rule(
    code="mismatch",
    title="sampler and trainer agree",
    check=check,
    needs=(_METRIC,),
)
