"""Sampler and trainer disagree, by measures other than the mean log-prob gap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from orz_monitor.findings import Cause, Evidence, Finding
from orz_monitor.frameworks import framework_of
from orz_monitor.rules.above import Text, above, during
from orz_monitor.rules.base import Rule, limit
from orz_monitor.rules.levels import Exceedance, growth, warmup_end
from orz_monitor.rules.progress import level
from orz_monitor.run import Run
from orz_monitor.series import Series
from orz_monitor.stats import Array
from orz_monitor.units import shown

_SIGNED: Final = "mismatch/kl_k1"
_DIVERGENCES: Final = ("mismatch/kl_k3", _SIGNED, "mismatch/js")
_TITLE: Final = "Sampler and trainer disagree"
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
    kl_error: float = limit(0.5, "nats a token of KL that are an error")
    kl_of_nemo_rl: float = limit(1e-3, "nats a token of KL in logs of NeMo-RL, whose guide says so")
    js: float = limit(1e-3, "nats a token of Jensen-Shannon divergence")
    growth: float = limit(10.0, "times its level after the warm-up, by which a divergence has grown over the run")
    smallest: float = limit(0.01, "nats; growth below this is of no consequence")
    prob_ratio: float = limit(1.05, "mean of exp |log-prob gap|")
    prob_corr: float = limit(0.95, "correlation of token probabilities; below is bad")
    weight_off: float = limit(2.0, "times, by which the mean importance weight is off 1")
    weight_std: float = limit(1.0, "standard deviation of the importance weights")
    effective: float = limit(0.3, "effective sample size of the importance weights; below is bad")
    chi2: float = limit(1.0, "chi-squared divergence by token")
    hits: int = limit(5, "steps beyond")
    window: int = limit(8, "among so many steps")


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
    """Look at each measure that is logged; the first that is beyond its limit speaks for all.

    What is large differs by precision and by the age of samples: a divergence that has grown tenfold is told, too.
    """
    for name, measure in _measures(run, limits).items():
        series = run.series(name)
        if not len(series):
            continue
        changed = Series(name=name, steps=series.steps, values=measure.change(series.values))
        levels = _Levels(warn=measure.warn, error=measure.error, hits=limits.hits, window=limits.window)
        found = above(run, changed, levels, _text(series, measure.beyond), whatever_the_reward=True, logged=series)
        if found:
            return found
    return [finding for name in _DIVERGENCES for finding in _grown(run, run.series(name), limits)][:1]


def _grown(run: Run, divergence: Series, limits: Limits) -> list[Finding]:
    """Tell whether a divergence has grown tenfold since the warm-up, of whichever size it is."""
    after = divergence.between(warmup_end(run), np.inf)
    size = Series(name=after.name, steps=after.steps, values=np.abs(after.values))
    return [_growth_finding(size, span, limits) for span in growth(size, limits.growth, limits.smallest)]


def _growth_finding(size: Series, span: Exceedance, limits: Limits) -> Finding:
    """Describe a growth by the levels that it led from and to."""
    start = level(size.values, at_end=False)
    in_size = " in size" if size.name == _SIGNED else ""
    return Finding(
        code="mismatch_measures",
        severity=span.severity,
        title=_TITLE,
        message=f"{size.name} grew{in_size} from {shown(start)} to {shown(span.typical)} since the warm-up, "
        f"more than {shown(limits.growth)} times.",
        evidence=(
            Evidence(
                metric=size.name,
                observed=span.typical,
                observed_is="median of the last 10 values",
                baseline=start,
                baseline_is="median of the first 10 after the warm-up",
            ),
        ),
        causes=_CAUSES,
        caveat=_CAVEAT,
        first_step=span.first_step,
        last_step=span.last_step,
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
        "mismatch/prob_ratio_error": _Measure(lambda v: v - 1, limits.prob_ratio - 1, 1.0, _above(limits.prob_ratio)),
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
        title=_TITLE,
        message=lambda span: (
            f"{series.name} was {shown(float(np.median(series.between(span.first_step, span.last_step).values)))} "
            f"{during(span)}, {beyond}."
        ),
        causes=_CAUSES,
        caveat=_CAVEAT,
    )


RULE = Rule(
    code="mismatch_measures",
    title="sampler and trainer agree by other measures",
    check=check,
    limits=Limits(),
    needs_any=(
        "mismatch/kl_k3",
        "mismatch/kl_k1",
        "mismatch/js",
        "mismatch/prob_ratio_error",
        "mismatch/prob_corr",
        "correction/weight_mean",
        "correction/weight_std",
        "correction/effective_frac",
        "correction/chi2_token",
    ),
    source="limits of the guides of verl and NeMo-RL",
)
