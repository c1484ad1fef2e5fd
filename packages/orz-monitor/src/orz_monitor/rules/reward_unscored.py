"""Responses get no score: the reward function times out or raises."""

from __future__ import annotations

from typing import Final

from orz_monitor.findings import Cause, Finding, milder
from orz_monitor.rules.base import Rule
from orz_monitor.rules.levels import before_and_during, exceedances, recovered
from orz_monitor.run import Run
from orz_monitor.units import shown

WARN_FRAC: Final = 0.05
ERROR_FRAC: Final = 0.5
METRICS: Final = ("reward/unscored_frac", "reward/timeout_frac", "reward/error_frac")
_TIMEOUT: Final = Cause(
    what="the reward function runs into its time limit",
    confirm="`reward/timeout_frac` is most of it, and `seconds.reward` rose",
    try_="raise `reward.timeout_s`, add `reward.workers`, or make the function faster",
)
_ERROR: Final = Cause(
    what="the reward function raises",
    confirm="`reward/error_frac` is most of it; console.log has the exception",
    try_="fix the exception; `reward.function` must return a number for any text",
)


def check(run: Run) -> list[Finding]:
    """Find spans in which more than one response in twenty has no score."""
    logged = [name for name in METRICS if run.logged(name)]
    for name in logged:
        spans = exceedances(run.series(name), warn=WARN_FRAC, error=ERROR_FRAC, hits=3, window=5)
        if spans:  # the first metric that shows it covers the others
            break
    else:
        return []
    timeouts, errors = (run.series(metric).values for metric in METRICS[1:])
    causes = (_ERROR, _TIMEOUT) if errors.sum() > timeouts.sum() else (_TIMEOUT, _ERROR)
    return [
        Finding(
            code="reward_unscored",
            severity=milder(span.severity) if recovered(run, span.last_step) else span.severity,
            title="Responses without a score",
            message=f"{shown(100 * span.typical)} % of the responses got no score in the steps "
            f"{span.first_step} to {span.last_step}.",
            evidence=tuple(before_and_during(run.series(m), span.first_step, span.last_step) for m in logged),
            causes=causes,
            caveat="A few time-outs a step are usual with symbolic answers.",
            first_step=span.first_step,
            last_step=span.last_step,
        )
        for span in spans
    ]


RULE = Rule(
    code="reward_unscored",
    title="responses get a score",
    check=check,
    needs_any=METRICS,
)
