"""Sampler and trainer disagree, by measures other than the mean log-prob gap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from orz_monitor.findings import Cause, Finding
from orz_monitor.rules.above import Text, above, during
from orz_monitor.rules.base import Rule, limit
from orz_monitor.run import Run
from orz_monitor.series import Series
from orz_monitor.stats import Array
from orz_monitor.units import shown

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
    prob_ratio: float = limit(1.05, "mean of exp |log-prob gap|")
    prob_corr: float = limit(0.95, "correlation of token probabilities; below is bad")
    weight_off: float = limit(2.0, "times, by which the mean importance weight is off 1")
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
    """Look at each measure that is logged; the first that is beyond its limit speaks for all."""
    for name, (change, warn, error) in _measures(limits).items():
        series = run.series(name)
        if not len(series):
            continue
        changed = Series(name=name, steps=series.steps, values=change(series.values))
        levels = _Levels(warn=warn, error=error, hits=limits.hits, window=limits.window)
        found = above(run, changed, levels, _text(name, series), whatever_the_reward=True)
        if found:
            return found
    return []


def _measures(limits: Limits) -> dict[str, tuple[Callable[[Array], Array], float, float]]:
    """Return measure to how it is made `larger is worse`, and its limits."""
    off = float(np.log(limits.weight_off))
    return {
        "mismatch/kl_k3": (np.abs, limits.kl, limits.kl_error),
        "mismatch/kl_k1": (np.abs, limits.kl, limits.kl_error),
        "mismatch/prob_ratio_error": (lambda v: v - 1, limits.prob_ratio - 1, 1.0),
        "mismatch/prob_corr": (lambda v: 1 - v, 1 - limits.prob_corr, 0.5),
        "correction/weight_mean": (lambda v: np.abs(np.log(np.maximum(v, 1e-9))), off, 3 * off),
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
        "mismatch/prob_ratio_error",
        "mismatch/prob_corr",
        "correction/weight_mean",
        "correction/effective_frac",
        "correction/chi2_token",
    ),
    source="limits of the guides of verl and NeMo-RL",
)
