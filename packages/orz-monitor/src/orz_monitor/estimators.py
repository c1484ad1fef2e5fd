"""How a KL was estimated, where a setting of the trainer's decides and its log may not say so."""

from __future__ import annotations

from typing import Final

from orz_monitor.frameworks import SETTINGS, framework_of, setting_of
from orz_monitor.run import Run

_SETTING: Final = "kl.estimator"
NEVER_NEGATIVE: Final = ("k2", "k3", "abs")
"""Estimators of KL that no sample makes negative."""


def estimator_of(run: Run, name: str, rounding: float) -> str:
    """Return how a metric was estimated (`k1`, `k2`, `k3`, `abs`, `sampled`), or empty where that is not known.

    Where a setting decides, it is what the run's settings say. Without them it is what the trainer's own recipes have,
    unless a value is below 0: the one estimator that a setting can choose and that may be negative is k1.

    Args:
        run: the run.
        name: of a metric that it logged.
        rounding: by which a value may be below 0 and count as 0, in nats.
    """
    series = run.metrics[name]
    if not series.estimator_varies:
        return series.estimator
    if told := setting_of(run, _SETTING):
        return _ours(told, framework_of(run))
    return "k1" if (run.series(name).values < -rounding).any() else series.estimator


def _ours(told: str, framework: str) -> str:
    """Return what we call an estimator that a setting names; empty where it is none of ours.

    A plus sign at its end is of the gradient, and leaves the value.
    """
    theirs = {value: ours for ours, value in SETTINGS[_SETTING].values.get(framework, {}).items()}
    plain = told.removesuffix("+")
    ours = theirs.get(plain, plain)
    return ours if ours in {"k1", *NEVER_NEGATIVE} else ""
