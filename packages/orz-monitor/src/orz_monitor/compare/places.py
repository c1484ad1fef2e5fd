"""Where the steps of a run lie on the axis that runs are aligned by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from orz_cli.errors import UsageError
from orz_monitor.compare.axis import Axis
from orz_monitor.covered import steps_covered
from orz_monitor.log import Column
from orz_monitor.series import is_usable
from orz_monitor.stats import Array
from orz_monitor.table import Table

TOKENS: Final = ("tokens/trained", "tokens/total", "perf/total_num_tokens", "total_num_tokens", "num_tokens")
"""Keys of tokens, ours first, then verl's and TRL's."""
_SO_FAR: Final = "num_tokens"
"""The one of them that counts from the beginning of the run on, where it grows."""
_SECONDS: Final = "seconds/total"


def places_on(tables: Sequence[Table], axis: Axis) -> list[tuple[NDArray[np.int64], Array]]:
    """Return, of each run, the steps that have a place on the axis, [K] i64, and that place, [K] f64 and not falling.

    Raises:
        UsageError: a run has no value, or lacks what the axis needs; all runs that do are named.
    """
    if empty := [table.name for table in tables if not len(table.steps)]:
        raise UsageError(f"{_listed(empty)}: no value to compare", remedy="compare runs that have begun")
    places = {Axis.STEP: _by_step, Axis.TOKENS: _by_tokens, Axis.TIME: _by_time}[axis]
    found = [places(table) for table in tables]
    if lacking := [table.name for table, place in zip(tables, found, strict=True) if place is None]:
        if axis is Axis.TOKENS:
            message, remedy = f"none of {', '.join(TOKENS)} was logged", "align by step or time"
        else:
            message, remedy = f"neither times of records nor {_SECONDS} were logged", "align by step"
        raise UsageError(f"{_listed(lacking)}: {message}", remedy=remedy)
    return [place for place in found if place is not None]


def _by_step(table: Table) -> tuple[NDArray[np.int64], Array]:
    """Place steps by their number."""
    return table.steps, table.steps.astype(np.float64)


def _by_tokens(table: Table) -> tuple[NDArray[np.int64], Array] | None:
    """Place steps by the tokens up to their end."""
    column = next((found for key in TOKENS if (found := table.column(key)) is not None), None)
    if column is None:
        return None
    if column.key == _SO_FAR:
        usable = is_usable(column.values)
        counts = np.maximum(column.values[usable], 0)
        if _goes_on(counts):
            return column.steps[usable], _counted_through(counts)
    return column.steps, np.cumsum(_positive(column) * steps_covered(column.steps))


def _goes_on(counts: Array) -> bool:
    """Tell whether a count, [K], goes on from step to step, and where it falls, which is rare, begins anew at zero.

    What is counted of each step alone falls as often as it rises, and not to zero.
    """
    changes = np.diff(counts)
    rises, falls = changes > 0, changes < 0
    if not falls.any():
        return len(counts) == 1 or bool(rises.any())
    is_rare = 2 * int(falls.sum()) < int(rises.sum())
    return is_rare and float(counts[1:][falls].max()) <= float(changes.max())


def _counted_through(counts: Array) -> Array:
    """Return a count, [K], as if it had not begun anew where it falls.

    Example:
        >>> _counted_through(np.array([10.0, 20.0, 30.0, 10.0, 20.0])).tolist()
        [10.0, 20.0, 30.0, 40.0, 50.0]
    """
    counted_before = np.zeros(len(counts))
    counted_before[1:] = np.cumsum(np.where(np.diff(counts) < 0, counts[:-1], 0.0))
    return np.add(counts, counted_before, dtype=np.float64)


def _by_time(table: Table) -> tuple[NDArray[np.int64], Array] | None:
    """Place steps by the seconds since the first record: by the clock, or by what the trainer says that steps took."""
    times, steps = table.times, table.steps
    known = np.isfinite(times)
    column = table.column(_SECONDS)
    if known.sum() > 1 or (column is None and known.any()):
        clock = np.maximum.accumulate(times[known])
        return steps[known], clock - clock[0]
    if column is None or not len(column.steps):
        return None
    passed = np.cumsum(_positive(column) * steps_covered(column.steps))
    return column.steps, passed - passed[0]


def _positive(column: Column) -> Array:
    """Return a column's values, and 0 for what can't be added up."""
    return np.where(is_usable(column.values), np.maximum(column.values, 0), 0)


def _listed(names: Sequence[str]) -> str:
    """Name runs, each once."""
    return ", ".join(dict.fromkeys(names))
