"""Sampler and trainer disagree, by measures other than the mean log-prob gap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np

from orz_cli.findings import Severity
from orz_monitor.findings import Cause, Evidence, Finding, rank
from orz_monitor.frameworks import framework_of
from orz_monitor.rules.above import Text, above, during
from orz_monitor.rules.base import Rule, limit
from orz_monitor.rules.drift import CAUSES as DRIFT
from orz_monitor.rules.levels import Growth, growth, warmup_end
from orz_monitor.run import Run
from orz_monitor.series import Series
from orz_monitor.stats import Array, trend
from orz_monitor.units import shown

_SIGNED: Final = "mismatch/kl_k1"
_PROB_RATIO: Final = "mismatch/prob_ratio_error"
_DIVERGENCES: Final = ("mismatch/kl_k3", _SIGNED, "mismatch/js")
_CAVEAT: Final = "Importance weights correct a moderate disagreement; they do not repair stale weights."
_CAUSES: Final = (
    Cause(
        what="the sampler runs with stale or wrongly loaded weights",
        confirm="it is there from the first synchronisation on; `sync/version` does not advance",
        try_="compare a checksum of the weights on both sides after one synchronisation",
    ),
    Cause(
        what="different kernels or precision in sampler and trainer",
        confirm="it is steady, and shrinks with `policy.dtype=float32`",
        try_="correct with truncated importance weights, capped at 2; or use the same precision on both sides",
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Thresholds."""

    kl: float = limit(0.1, "nats a token of KL, in size")
    kl_error: float = limit(0.5, "nats a token of KL that are an error", least="kl")
    kl_of_nemo_rl: float = limit(1e-3, "nats a token of KL in logs of NeMo-RL, whose guide says so")
    js: float = limit(1e-3, "nats a token of Jensen-Shannon divergence")
    growth: float = limit(3.0, "times its level after the warm-up, by which a divergence has grown and still grows")
    growth_error: float = limit(10.0, "times that level, that are an error", least="growth")
    smallest: float = limit(0.01, "nats; growth below this is of no consequence")
    prob_ratio: float = limit(1.05, "mean of exp |log-prob gap|")
    prob_ratio_rise: float = limit(0.02, "gain of that mean over the run, below its limit")
    prob_corr: float = limit(0.95, "correlation of token probabilities; below is bad")
    weight_off: float = limit(2.0, "times, by which the mean importance weight is off 1")
    weight_std: float = limit(1.0, "standard deviation of the importance weights")
    effective: float = limit(0.3, "effective sample size of the importance weights; below is bad")
    chi2: float = limit(1.0, "chi-squared divergence by token")
    hits: int = limit(5, "steps beyond")
    window: int = limit(8, "among so many steps", least="hits")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Levels:
    """Thresholds of one measure, all brought to `larger is worse`."""

    warn: float
    error: float
    hits: int
    window: int


class _Measure(NamedTuple):
    """How a measure is made `larger is worse`, its limits then, and what is beyond the first of them, in words."""

    change: Callable[[Array], Array]
    warn: float
    error: float
    beyond: str


def check(run: Run, limits: Limits) -> list[Finding]:
    """Look at each measure that is logged, and at growth: the worst of them speaks for all, of equals the first.

    What is large differs by precision and by the age of samples: a divergence that has grown, and still does, is told,
    too, whether or not it is large.
    """
    beyond = [_beyond(run, name, measure, limits) for name, measure in _measures(run, limits).items()]
    grown = [_grown(run, name, limits) for name in _DIVERGENCES]
    groups = [found for found in (*beyond, *grown, _risen(run, limits)) if found]
    if not groups:
        return []
    speaks = min(groups, key=_worst)
    others = [max(found, key=_last_step) for found in groups if found is not speaks]
    return [*speaks[:-1], _with_others(speaks[-1], others)]


def _worst(found: list[Finding]) -> int:
    """Return the rank of the most severe of some findings."""
    return min(rank(finding.severity) for finding in found)


def _last_step(finding: Finding) -> int:
    """Return where a finding ends."""
    return finding.last_step or 0


def _with_others(finding: Finding, others: list[Finding]) -> Finding:
    """Add what others say of other measures at the same time to the evidence of the one that speaks for them."""
    evidence = {item.metric: item for item in finding.evidence}
    for other in others:
        if _last_step(other) >= (finding.first_step or 0):
            evidence |= {item.metric: item for item in other.evidence if item.metric not in evidence}
    return replace(finding, evidence=tuple(evidence.values()))


def _beyond(run: Run, name: str, measure: _Measure, limits: Limits) -> list[Finding]:
    """Find the spans in which a measure is beyond its limit."""
    series = run.series(name)
    if not len(series):
        return []
    changed = Series(name=name, steps=series.steps, values=measure.change(series.values))
    levels = _Levels(warn=measure.warn, error=measure.error, hits=limits.hits, window=limits.window)
    return above(run, changed, levels, _text(series, measure.beyond), whatever_the_reward=True, logged=series)


def _grown(run: Run, name: str, limits: Limits) -> list[Finding]:
    """Tell whether a divergence, of whichever size it is, has grown threefold since the warm-up, or tenfold."""
    after = run.series(name).between(warmup_end(run), np.inf)
    size = Series(name=name, steps=after.steps, values=np.abs(after.values))
    in_size = " in size" if name == _SIGNED else ""
    for times, severity in ((limits.growth_error, Severity.ERROR), (limits.growth, Severity.WARN)):
        grown = growth(size, times, limits.smallest)
        if grown is not None and (severity is Severity.ERROR or _rises(size)):
            said = f"{name} grew{in_size} from {shown(grown.start)} to {shown(grown.end)} since the warm-up"
            return [_growth_finding(name, grown, severity, f"{said}, more than {shown(times)} times.")]
    return []


def _risen(run: Run, limits: Limits) -> list[Finding]:
    """Tell whether the mean ratio of probabilities has risen since the warm-up, still below its limit."""
    after = run.series(_PROB_RATIO).between(warmup_end(run), np.inf)
    error = Series(name=_PROB_RATIO, steps=after.steps, values=after.values - 1)
    grown = growth(error, 1.0, 0.0)
    if grown is None or grown.end - grown.start <= limits.prob_ratio_rise or not _rises(error):
        return []
    grown = grown._replace(start=1 + grown.start, end=1 + grown.end)
    message = f"{_PROB_RATIO} rose from {shown(grown.start)} to {shown(grown.end)} since the warm-up."
    return [_growth_finding(_PROB_RATIO, grown, Severity.WARN, message)]


def _rises(series: Series) -> bool:
    """Tell whether a series rises all in all, and not by a single step."""
    drift = trend(series.steps, series.values)
    return drift.slope > 0 and drift.significant


def _growth_finding(name: str, grown: Growth, severity: Severity, message: str) -> Finding:
    """Describe a growth by the levels that it led from and to."""
    return Finding(
        code="mismatch_measures",
        severity=severity,
        title="Sampler and trainer drift apart",
        message=message,
        evidence=(
            Evidence(
                metric=name,
                observed=grown.end,
                observed_is="median of the last 10 values",
                baseline=grown.start,
                baseline_is="median of the first 10 after the warm-up",
            ),
        ),
        causes=DRIFT,
        caveat=_CAVEAT,
        first_step=grown.first_step,
        last_step=grown.last_step,
    )


def _measures(run: Run, limits: Limits) -> dict[str, _Measure]:
    """Return what each measure is judged by."""
    off = float(np.log(limits.weight_off))
    kl = limits.kl_of_nemo_rl if framework_of(run) == "nemo-rl" else limits.kl
    times_off = f"more than the limit of {shown(limits.weight_off)} times off 1"
    return {
        "mismatch/kl_k3": _Measure(np.abs, kl, limits.kl_error, _above(kl)),
        _SIGNED: _Measure(np.abs, kl, limits.kl_error, f"in size {_above(kl)}"),
        "mismatch/js": _Measure(np.abs, limits.js, 100 * limits.js, _above(limits.js)),
        _PROB_RATIO: _Measure(lambda v: v - 1, limits.prob_ratio - 1, 1.0, _above(limits.prob_ratio)),
        "mismatch/prob_corr": _Measure(lambda v: 1 - v, 1 - limits.prob_corr, 0.5, _below(limits.prob_corr)),
        "correction/weight_mean": _Measure(lambda v: np.abs(np.log(np.maximum(v, 1e-9))), off, 3 * off, times_off),
        "correction/weight_std": _Measure(np.abs, limits.weight_std, 10 * limits.weight_std, _above(limits.weight_std)),
        "correction/effective_frac": _Measure(lambda v: 1 - v, 1 - limits.effective, 0.97, _below(limits.effective)),
        "correction/chi2_token": _Measure(np.abs, limits.chi2, 100 * limits.chi2, _above(limits.chi2)),
    }


def _above(value: float) -> str:
    """Say that a measure is above its limit."""
    return f"above the limit of {shown(value)}"


def _below(value: float) -> str:
    """Say that a measure is below its limit."""
    return f"below the limit of {shown(value)}"


def _text(series: Series, beyond: str) -> Text:
    """Make the sentence from the values as logged, and what is beyond their limit."""
    return Text(
        code="mismatch_measures",
        title="Sampler and trainer disagree",
        message=lambda span: (
            f"{series.name} was {shown(float(np.median(series.between(span.first_step, span.last_step).values)))} "
            f"{during(span)}, {beyond}."
        ),
        causes=_CAUSES,
        caveat=_CAVEAT,
    )


RULE = Rule(
    absorbs=frozenset({"ramp"}),
    code="mismatch_measures",
    title="sampler and trainer agree by other measures",
    check=check,
    limits=Limits(),
    needs_any=(
        "mismatch/kl_k3",
        "mismatch/kl_k1",
        "mismatch/js",
        _PROB_RATIO,
        "mismatch/prob_corr",
        "correction/weight_mean",
        "correction/weight_std",
        "correction/effective_frac",
        "correction/chi2_token",
    ),
    source="limits of the guides of verl and NeMo-RL",
)
