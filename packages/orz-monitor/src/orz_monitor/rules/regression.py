"""A run does worse than one that it is compared with."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from orz_cli.findings import Severity
from orz_monitor.findings import Cause, Evidence, Finding
from orz_monitor.rules.base import Rule, limit
from orz_monitor.run import Run
from orz_monitor.series import Series
from orz_monitor.stats import step_noise
from orz_monitor.units import shown

CODE: Final = "regression"
_CAUSES: Final = (
    Cause(
        what="a change of code or configuration between the two runs",
        confirm="compare their `config.yaml` and `environment.json`",
        try_="go back by half of what changed, and compare again",
    ),
    Cause(
        what="chance: another seed",
        confirm="two runs of the baseline with other seeds differ as much",
        try_="raise the tolerance in `.orz-monitor.toml` to what seeds differ by",
    ),
)


class Measure(NamedTuple):
    """A metric that is compared: its name, whether more is better, and what is compared."""

    metric: str
    more_is_better: bool
    limit: str


_MEASURES: Final = (
    Measure("reward/mean", more_is_better=True, limit="reward"),
    Measure("eval/", more_is_better=True, limit="accuracy"),
    Measure("rollout/truncated_frac", more_is_better=False, limit="truncation"),
    Measure("mismatch/logprob_abs_mean", more_is_better=False, limit="mismatch"),
    Measure("seconds.total", more_is_better=False, limit="step_time"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Tolerances."""

    reward: float = limit(0.05, "of the baseline's reward that may be lost")
    accuracy: float = limit(0.05, "of the baseline's accuracy that may be lost")
    truncation: float = limit(0.05, "more of the responses that may be cut")
    mismatch: float = limit(1.0, "more of the baseline's log-prob gap, as a share of it")
    step_time: float = limit(0.2, "more of the baseline's step time, as a share of it")
    errors: float = limit(3.0, "standard errors that a difference must have beyond its tolerance")
    last: int = limit(20, "steps of the common part that are compared")


def rule(baseline: Run) -> Rule:
    """Return the rule that compares runs with a baseline, at the steps that both have."""

    def check(run: Run, limits: Limits) -> list[Finding]:
        found = (_compare(run, baseline, name, measure, limits) for name, measure in _compared(run, baseline))
        return [finding for finding in found if finding is not None]

    return Rule(
        code=CODE,
        title=f"the run does as well as {baseline.name}",
        check=check,
        limits=Limits(),
        hinders=lambda run: _incomparable(run, baseline),
        remedy="give a baseline with steps that this run has, and with one of the metrics that are compared",
        is_asked_for=True,
        most=10,
        source="medians of the last steps that both runs have; a difference counts beyond tolerance and noise",
    )


def _compared(run: Run, baseline: Run) -> list[tuple[str, Measure]]:
    """Return the metrics that both runs have and that are compared, whether or not they share steps."""
    return [(name, measure) for measure in _MEASURES for name in _names(run, baseline, measure)]


def _incomparable(run: Run, baseline: Run) -> str:
    """Say why nothing can be compared; empty where any metric can."""
    names = [name for name, _ in _compared(run, baseline)]
    if not names:
        return "no metric in common of those that are compared"
    steps = [(_series(run, name).steps, _series(baseline, name).steps) for name in names]
    if any(len(np.intersect1d(ours, theirs)) for ours, theirs in steps):
        return ""
    ours, theirs = steps[0]
    return f"no steps in common, {_span(ours)} against {_span(theirs)}"


def _span(steps: NDArray[np.int64]) -> str:
    """Write which steps there are: the first and the last, or the only one."""
    return f"{steps[0]} to {steps[-1]}" if len(steps) > 1 else str(steps[0])


def _names(run: Run, baseline: Run, measure: Measure) -> list[str]:
    """Return the metrics of a measure that both runs have."""
    if measure.metric == "seconds.total":
        both_timed = all("total" in one.seconds and len(one.seconds["total"].finite()) for one in (run, baseline))
        return [measure.metric] if both_timed else []
    both = [name for name in run.metrics if run.logged(name) and baseline.logged(name)]
    if measure.metric.endswith("/"):
        return [name for name in both if name.startswith(measure.metric) and name.endswith("/accuracy")]
    return [name for name in both if name == measure.metric]


def _series(run: Run, name: str) -> Series:
    """Return a metric, or the time of a step."""
    return run.seconds["total"].finite() if name == "seconds.total" else run.series(name)


def _compare(run: Run, baseline: Run, name: str, measure: Measure, limits: Limits) -> Finding | None:
    """Compare one metric over the last steps that both runs have."""
    ours, theirs = _series(run, name), _series(baseline, name)
    common = np.intersect1d(ours.steps, theirs.steps)[-limits.last :]
    if not len(common):
        return None
    mine, other = ours.at(common), theirs.at(common)
    now, before = float(np.median(mine)), float(np.median(other))
    worse = before - now if measure.more_is_better else now - before
    tolerated = getattr(limits, measure.limit) * (1.0 if measure.limit == "truncation" else abs(before))
    noise = math.hypot(step_noise(mine), step_noise(other)) * 1.25 / math.sqrt(len(common))
    if not worse > tolerated + limits.errors * noise:
        return None
    begins, ends = int(common[0]), int(common[-1])
    where = f"step {ends}" if len(common) == 1 else f"the steps {begins} to {ends}"
    return Finding(
        code=CODE,
        severity=Severity.ERROR if measure.more_is_better else Severity.WARN,
        title=f"{name} is worse than in {baseline.name}",
        message=f"{name} was {shown(now)} in {where}, and {shown(before)} in {baseline.name}; "
        f"{shown(tolerated)} is tolerated.",
        evidence=(
            Evidence(
                metric=name,
                observed=now,
                observed_is=f"median of {where}",
                baseline=before,
                baseline_is=f"the same of {baseline.name}",
            ),
        ),
        causes=_CAUSES,
        caveat="Runs with other seeds differ; a tolerance below that finds chance.",
        first_step=begins,
        last_step=ends,
    )
