"""Sampler and trainer disagree, by measures other than the mean log-prob gap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from orz_monitor.findings import Cause, Finding
from orz_monitor.frameworks import framework_of
from orz_monitor.rules.above import Text, above, described, during
from orz_monitor.rules.base import Rule, limit
from orz_monitor.rules.levels import growth, warmup_end
from orz_monitor.run import Run
from orz_monitor.series import Series
from orz_monitor.stats import Array
from orz_monitor.units import shown

_DIVERGENCES: Final = ("mismatch/kl_k3", "mismatch/kl_k1", "mismatch/js")
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


def check(run: Run, limits: Limits) -> list[Finding]:
    """Look at each measure that is logged; the first that is beyond its limit speaks for all.

    What is large differs by precision and by the age of samples: a divergence that has grown tenfold is told, too.
    """
    for name, (change, warn, error) in _measures(run, limits).items():
        series = run.series(name)
        if not len(series):
            continue
        changed = Series(name=name, steps=series.steps, values=change(series.values))
        levels = _Levels(warn=warn, error=error, hits=limits.hits, window=limits.window)
        found = above(run, changed, levels, _text(name, series), whatever_the_reward=True, logged=series)
        if found:
            return found
    return [finding for name in _DIVERGENCES for finding in _grown(run, run.series(name), limits)][:1]


def _grown(run: Run, divergence: Series, limits: Limits) -> list[Finding]:
    """Tell whether a divergence has grown tenfold since the warm-up, of whichever size it is."""
    after = divergence.between(warmup_end(run), np.inf)
    size = Series(name=after.name, steps=after.steps, values=np.abs(after.values))  # estimator k1 may be negative
    text = _text(divergence.name, divergence)
    return [described(size, span, span.severity, text) for span in growth(size, limits.growth, limits.smallest)]


def _measures(run: Run, limits: Limits) -> dict[str, tuple[Callable[[Array], Array], float, float]]:
    """Return measure to how it is made `larger is worse`, and its limits."""
    off = float(np.log(limits.weight_off))
    kl = limits.kl_of_nemo_rl if framework_of(run) == "nemo-rl" else limits.kl
    return {
        "mismatch/kl_k3": (np.abs, kl, limits.kl_error),
        "mismatch/kl_k1": (np.abs, kl, limits.kl_error),
        "mismatch/js": (np.abs, limits.js, 100 * limits.js),
        "mismatch/prob_ratio_error": (lambda v: v - 1, limits.prob_ratio - 1, 1.0),
        "mismatch/prob_corr": (lambda v: 1 - v, 1 - limits.prob_corr, 0.5),
        "correction/weight_mean": (lambda v: np.abs(np.log(np.maximum(v, 1e-9))), off, 3 * off),
        "correction/weight_std": (np.abs, limits.weight_std, 10 * limits.weight_std),
        "correction/effective_frac": (lambda v: 1 - v, 1 - limits.effective, 0.97),
        "correction/chi2_token": (np.abs, limits.chi2, 100 * limits.chi2),
    }


def _text(name: str, series: Series) -> Text:
    """Make the sentence from the values as logged."""
    return Text(
        code="mismatch_measures",
        title="Sampler and trainer disagree",
        message=lambda span: (
            f"{name} was {shown(float(np.median(series.between(span.first_step, span.last_step).values)))} "
            f"{during(span)}."
        ),
        causes=_CAUSES,
        caveat="Importance weights correct a moderate disagreement; they do not repair stale weights.",
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
