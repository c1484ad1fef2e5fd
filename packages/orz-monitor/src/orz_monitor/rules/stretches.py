"""Parts of a series that share a level: a new reference or a restart with other settings begins a new one."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Final

import numpy as np

from orz_monitor.series import Series

_LOOK: Final = 5
"""Values before and after a restart whose medians are compared."""
_JUMP: Final = 1.5
"""Times, up or down: a restart across which the level changed by more goes on with something else."""


def stretches(
    series: Series, *, resets: Iterable[int] = (), restarts: Iterable[int] = (), falls: bool = False
) -> list[Series]:
    """Cut a series where its level was set anew.

    Args:
        series: finite values.
        resets: steps after which the level is another by design, such as those of a reference update.
        restarts: first steps after a restart; they cut only where the level jumps there.
        falls: count only jumps down.

    Returns:
        The parts in order, none of them empty.
    """
    cuts = {int(np.searchsorted(series.steps, step, side="right")) for step in resets}
    for step in restarts:
        at = int(np.searchsorted(series.steps, step))
        if _jumps(series, at, falls=falls):
            cuts.add(at)
    edges = [0, *sorted(cut for cut in cuts if 0 < cut < len(series)), len(series)]
    steps = series.steps
    return [series.between(float(steps[a]), float(steps[b - 1])) for a, b in pairwise(edges) if b > a]


def _jumps(series: Series, at: int, *, falls: bool) -> bool:
    """Tell whether the level before a place and the one from it on differ by more than half."""
    before, after = series.values[max(0, at - _LOOK) : at], series.values[at : at + _LOOK]
    if not len(before) or not len(after):
        return False
    old, new = float(np.median(before)), float(np.median(after))
    if old <= 0 or new <= 0:
        return False
    return old > _JUMP * new or (not falls and new > _JUMP * old)
