"""How a KL was estimated, where a setting of the trainer's decides and its log may not say so."""

from __future__ import annotations

from typing import Final

import numpy as np

from orz_monitor.frameworks import SETTINGS, framework_of, setting_of
from orz_monitor.run import Run
from orz_monitor.stats import Array, step_noise

_SETTING: Final = "kl.estimator"
_SIGMAS: Final = 10.0
"""Of a KL's noise from step to step, by which samples of k1 may be below 0."""
NEVER_NEGATIVE: Final = ("k2", "k3", "abs")
"""Estimators of KL that no sample makes negative."""


def estimator_of(run: Run, name: str, rounding: float) -> str:
    """Return how a metric was estimated (`k1`, `k2`, `k3`, `abs`, `sampled`), or empty where that is not known.

    Where a setting decides, it is what the run's settings say. Without them it is what the trainer's own recipes have,
    unless values are below 0 by noise: the one estimator that a setting can choose and that may be negative is k1.

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
    return "k1" if _is_noise_around_zero(run.series(name).values, rounding) else series.estimator


def _is_noise_around_zero(values: Array, rounding: float) -> bool:
    """Tell whether values are below 0, and as samples of a KL by k1 are: by their noise, while their level is not.

    The mean of k1 over the policy's own samples is a KL, which is never negative.
    """
    below = values[values < -rounding]
    if not len(below):
        return False
    noise = max(step_noise(values), rounding)
    return bool(below.min() >= -_SIGMAS * noise and np.median(values) >= -noise)


def _ours(told: str, framework: str) -> str:
    """Return what we call an estimator that a setting names; empty where it is none of ours.

    A plus sign at its end is of the gradient, and leaves the value.
    """
    theirs = {value: ours for ours, value in SETTINGS[_SETTING].values.get(framework, {}).items()}
    plain = told.removesuffix("+")
    ours = theirs.get(plain, plain)
    return ours if ours in {"k1", *NEVER_NEGATIVE} else ""
