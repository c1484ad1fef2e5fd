"""How much was recognised in the log of a trainer that nobody has described: little may be another program's."""

from __future__ import annotations

from typing import Final

from orz_monitor.dialects.generic.keys import MEANINGS, known_name
from orz_monitor.run import Run
from orz_monitor.units import counted
from orz_monitor.whose_names import GENERIC_NAME

_LITTLE: Final = 3
"""Fewer known metrics than this are printed by other programs, too."""
_NAMES: Final = frozenset(known_name(key) for key in MEANINGS)


def is_little(run: Run) -> bool:
    """Tell whether a log of an unknown trainer has one or two known metrics."""
    return run.framework == GENERIC_NAME and len(_keys(run)) < _LITTLE


def read_as(run: Run) -> str:
    """Say by which names the metrics of an unknown trainer were recognised, and in how much of its log; else empty.

    Of a store, which has no lines, the names alone.

    Example: `an unknown trainer's log: 2 metrics recognised by their names alone (loss, reward), on 30 of 1204 lines`.
    """
    if run.framework != GENERIC_NAME:
        return ""
    keys = _keys(run)
    alone = "its name alone" if len(keys) == 1 else "their names alone"
    if run.is_store:
        said = f"nothing tells whose keys these are: {counted(len(keys), 'metric')} recognised"
        return f"{said} by {alone} ({', '.join(keys)})" if keys else ""
    if not keys:
        return ""
    on = f"on {run.coverage.num_metric_lines} of {counted(run.coverage.num_lines, 'line')}"
    said = f"an unknown trainer's log: {counted(len(keys), 'metric')} recognised by {alone} ({', '.join(keys)}), {on}"
    return f"{said}; little to judge a run by" if is_little(run) else said


def _keys(run: Run) -> list[str]:
    """Return the keys whose meaning was guessed."""
    return [key for name in run.metrics if name in _NAMES for key in run.metrics[name].raw_keys[:1]]
