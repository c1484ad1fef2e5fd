"""Values that cannot be: a share above 1, a distance below 0, a response longer than its limit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from orz_cli.findings import Severity
from orz_monitor.estimators import NEVER_NEGATIVE, estimator_of
from orz_monitor.findings import Cause, Evidence, Finding
from orz_monitor.frameworks import called, framework_of, setting_of
from orz_monitor.metrics.peers import spec_of
from orz_monitor.rules.base import Rule, limit
from orz_monitor.run import Run
from orz_monitor.stats import Mask
from orz_monitor.units import shown

_CAUSES: Final = (
    Cause(
        what="a metric is reckoned or averaged wrongly, or has another meaning under this name",
        confirm="look at the line named, and at where the trainer reckons it",
        try_="correct the metric; until then trust no finding that rests on it",
    ),
)
_LONGEST: Final = "generation.max_response_tokens"
_SIGNED: Final = "k1"
"""The estimator of KL that samples may make negative."""
_NEVER_NEGATIVE: Final = (
    "policy/entropy",
    "policy/grad_norm",
    "critic/grad_norm",
    "critic/loss",
    "policy/kl_loss",
    "policy/ratio_max",
    "policy/ratio_mean",
    "mismatch/kl_k3",
    "mismatch/logprob_abs_mean",
    "rollout/response_tokens_mean",
    "policy/lr",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Thresholds."""

    rounding: float = limit(1e-3, "by which a value may be beyond its bound")
    vocabulary: float = limit(12.5, "nats; the entropy of a uniform choice among 268,000 tokens")


def check(run: Run, limits: Limits) -> list[Finding]:
    """Look at each metric for values out of its bounds, and at pairs that contradict each other."""
    found = []
    for name in run.metrics:
        spec = spec_of(name)
        if spec is None:
            continue
        estimator = estimator_of(run, name, limits.rounding)
        positive = estimator in NEVER_NEGATIVE or (name in _NEVER_NEGATIVE and estimator != _SIGNED)
        is_share = spec.unit == "fraction" and not name.startswith("eval/")  # which is a mean reward to some trainers
        low = 0.0 if is_share or positive else -np.inf
        high = 1.0 if is_share else np.inf
        high = {"policy/entropy": limits.vocabulary, "policy/logprob_mean": 0.0}.get(name, high)
        series = run.series(name)
        wrong = (series.values < low - limits.rounding) | (series.values > high + limits.rounding)
        if wrong.any():
            said = f"below {shown(low)}" if (series.values < low - limits.rounding).any() else f"above {shown(high)}"
            found.append(_finding(run, name, wrong, said))
    return [*found, *_rewards(run, limits), *_lengths(run)]


def _rewards(run: Run, limits: Limits) -> list[Finding]:
    """Compare the mean reward with the smallest and the largest of its step."""
    mean = run.series("reward/mean")
    low, high = (run.series(name).at(mean.steps) for name in ("reward/min", "reward/max"))
    found = []
    if (wrong := mean.values < low - limits.rounding).any():
        found.append(_finding(run, mean.name, wrong, "below reward/min"))
    if (wrong := mean.values > high + limits.rounding).any():
        found.append(_finding(run, mean.name, wrong, "above reward/max"))
    return found


def _lengths(run: Run) -> list[Finding]:
    """Compare lengths with each other and with the configured limit."""
    length, longest = run.series("rollout/response_tokens_mean"), run.series("rollout/response_tokens_max")
    total = run.series("rollout/total_tokens_mean").at(length.steps)
    found = []
    if (wrong := length.values > total + 1).any():
        found.append(_finding(run, length.name, wrong, "above rollout/total_tokens_mean"))
    configured = setting_of(run, _LONGEST)
    try:
        most = float(configured)
    except ValueError:
        return found
    told = longest if len(longest) else length
    if most > 0 and (wrong := told.values > most).any():  # some trainers write -1 for no limit
        found.append(_finding(run, told.name, wrong, f"above {called(_LONGEST, framework_of(run))}={configured}"))
    return found


def _finding(run: Run, name: str, wrong: Mask, said: str) -> Finding:
    """Describe what cannot be about one metric."""
    series = run.series(name)
    steps = series.steps[wrong]
    first, last = int(steps[0]), int(steps[-1])
    value = float(series.values[wrong][0])
    times = f"in {int(wrong.sum())} steps, first at" if wrong.sum() > 1 else "at"
    return Finding(
        code="invariants",
        severity=Severity.WARN,
        title="A value that cannot be",
        message=f"{name} was {shown(value)}, {said}, {times} step {first}.",
        evidence=(Evidence(metric=name, observed=value, observed_is=f"step {first}"),),
        causes=_CAUSES,
        caveat="Another version of the trainer may log something else under the same name.",
        first_step=first,
        last_step=last,
    )


RULE = Rule(
    code="invariants",
    title="values are possible",
    check=check,
    limits=Limits(),
    worst=Severity.WARN,
    most=3,
    source="estimator k3 is never negative, a share never above 1: whatever breaks that is a bug of the metric",
)
