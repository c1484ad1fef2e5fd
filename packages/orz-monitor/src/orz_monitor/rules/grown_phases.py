"""The phase in which steps lost most of their time."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np

from orz_monitor.records import PHASES
from orz_monitor.run import Run
from orz_monitor.series import Series


def grown_in_step(run: Run, step: int, lost_s: float) -> str:
    """Name the phase in which a step lost more than half of its time, against all other steps; empty if none did.

    Args:
        run: the run.
        step: the step.
        lost_s: how many seconds longer than usual it took.
    """
    grown: dict[str, float] = {}
    for phase, series in _phases(run):
        here, elsewhere = series.values[series.steps == step], series.values[series.steps != step]
        if len(here):
            grown[phase] = float(here[0]) - (float(np.median(elsewhere)) if len(elsewhere) else 0.0)
    return _explaining(grown, lost_s)


def grown_in_span(run: Run, begins: int, ends: int, lost_s: float, *, without: Collection[str]) -> str:
    """Name the phase in which steps lost more than half of their time, against the 40 before; empty if none did.

    Args:
        run: the run.
        begins: the first of the steps.
        ends: the last one.
        lost_s: how many seconds longer than before they took, in the median.
        without: phases that are left out.
    """
    grown: dict[str, float] = {}
    for phase, series in _phases(run):
        before, during = series.between(-np.inf, begins - 1).values[-40:], series.between(begins, ends).values
        if phase not in without and len(before) and len(during):
            grown[phase] = float(np.median(during) - np.median(before))
    return _explaining(grown, lost_s)


def _phases(run: Run) -> Iterator[tuple[str, Series]]:
    """Yield the phases that were logged and their seconds."""
    for phase in PHASES:
        if phase != "total" and phase in run.seconds:
            yield phase, run.seconds[phase].finite()


def _explaining(grown: dict[str, float], lost_s: float) -> str:
    """Return the phase that grew most, if that is more than half of what was lost."""
    most = max(grown, key=lambda phase: grown[phase], default="")
    return most if most and grown[most] > lost_s / 2 else ""
