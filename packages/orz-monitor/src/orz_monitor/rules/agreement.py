"""Groups whose samples all got the same reward, and whether they all succeeded or all failed."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import numpy as np

from orz_monitor.run import Run
from orz_monitor.series import Series

AGREE: Final = "rollout/zero_variance_frac"
SUCCEED: Final = "reward/solve_all_frac"
FAIL: Final = "reward/solve_none_frac"
_SOLVED: Final = "reward/solved_frac"


class Agreement(StrEnum):
    """On what most of the groups without spread agree."""

    SUCCESS = "success"
    FAILURE = "failure"
    UNKNOWN = "unknown"


def without_spread(run: Run) -> Series:
    """Return the share of groups without spread: as logged, else those that all succeed and that all fail together."""
    if run.logged(AGREE):
        return run.series(AGREE)
    parts = [run.series(name) for name in (SUCCEED, FAIL) if run.logged(name)]
    steps = np.unique(np.concatenate([part.steps for part in parts])) if parts else np.empty(0, dtype=np.int64)
    shares = sum((np.nan_to_num(part.at(steps)) for part in parts), np.zeros(len(steps)))
    return Series(name=AGREE, steps=steps, values=shares)


def agreement(run: Run, first_step: int, last_step: int) -> Agreement:
    """Tell on what most groups without spread agree in some steps.

    Where the trainer counts them, it is what it says. Else the samples with the full reward tell: of a share s of them
    and z of groups without spread, at least s - (1 - z) and at most s of the groups have only such samples.
    """
    agree = _typical(without_spread(run), first_step, last_step)
    succeed, fail = (_typical(run.series(name), first_step, last_step) for name in (SUCCEED, FAIL))
    if np.isnan(succeed) and np.isnan(fail):
        solved = _typical(run.series(_SOLVED), first_step, last_step)
        least, most = solved - (1 - agree), solved
    else:
        least = most = agree - fail if np.isnan(succeed) else succeed
    if least > agree / 2:
        return Agreement.SUCCESS
    return Agreement.FAILURE if most < agree / 2 else Agreement.UNKNOWN


def _typical(series: Series, first_step: int, last_step: int) -> float:
    """Return the median in some steps; NaN where there is no value."""
    values = series.between(first_step, last_step).values
    return float(np.median(values)) if len(values) else float("nan")
