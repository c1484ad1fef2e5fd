"""How long steps took: by the clock of their records, or as the trainer says."""

from __future__ import annotations

from typing import Final

import numpy as np

from orz_monitor.run import Run
from orz_monitor.series import Series

BETWEEN: Final = "seconds between records"
"""What findings call the time from one record to the next."""
HOW_TO_TIME: Final = "have the log's lines begin with the time, as `ts '%F %T'` writes it before them"
TOTAL: Final = "seconds.total"
"""What findings call the seconds that the trainer says a step took."""


def lacks_times(run: Run) -> str:
    """Say what of a run is missing to know how long its steps took; empty if nothing is."""
    return "" if len(run.times.finite()) or len(_total(run)) else "times of records, or seconds/total"


def by_clock(run: Run) -> Series:
    """Return the seconds between records, [K - 1] at most; where records have no times, what the trainer says.

    Times between two attempts are no step's, and left out.
    """
    gaps = between_records(run)
    return gaps if len(gaps) else _said(run)


def between_records(run: Run) -> Series:
    """Return the seconds from one record to the next of the same attempt, by their clock, [K - 1] at most."""
    times = run.times.finite()
    within = ~np.isin(times.steps[1:], run.restarts)
    return Series(name=BETWEEN, steps=times.steps[1:][within], values=np.diff(times.values)[within])


def by_trainer(run: Run) -> Series:
    """Return the seconds that the trainer says each step took, [K] at most; else those between records.

    The first step, and the first one after a restart, are left out: they load and compile, too.
    """
    said = _said(run)
    return said if len(said) else between_records(run)


def _total(run: Run) -> Series:
    """Return what the trainer says that its steps took; empty where it does not."""
    return run.seconds["total"].finite() if "total" in run.seconds else run.series("")


def _said(run: Run) -> Series:
    """Return what the trainer says of steps that are no warm-up."""
    total = _total(run)
    usual = ~np.isin(total.steps, (*total.steps[:1].tolist(), *run.restarts))
    return Series(name=TOTAL, steps=total.steps[usual], values=total.values[usual])
