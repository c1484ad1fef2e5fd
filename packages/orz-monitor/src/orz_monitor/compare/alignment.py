"""Put runs on one axis and say how they differ at its end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from orz_cli.errors import UsageError
from orz_monitor.compare.axis import Axis
from orz_monitor.compare.places import places_on
from orz_monitor.series import is_usable
from orz_monitor.stats import Array, step_noise
from orz_monitor.table import Table, keys_of_all, not_read

SHARE: Final = 0.1
"""Of the range that all runs cover, the end that is compared."""
FEWEST: Final = 5
"""Points that are compared, where so many lie in the range."""
CLEAR: Final = 3.0
"""Units of noise from which on a difference is marked."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Line:
    """One metric of one run along the axis.

    Attributes:
        at: [K] f64, places on the axis, not decreasing.
        values: [K] f64, finite.
    """

    at: Array
    values: Array


@dataclass(frozen=True, kw_only=True, slots=True)
class Level:
    """What a metric is at the end of the range that all runs cover.

    Attributes:
        value: median of the last values in the range; NaN where there are none.
        noise: standard deviation of one value about the run's slow course.
        sigmas: difference to the first run, in units of both runs' noise together; None for the first run, and
            where a value is missing.
    """

    value: float
    noise: float
    sigmas: float | None

    @property
    def clear(self) -> bool:
        """Whether the difference is larger than noise explains."""
        return self.sigmas is not None and abs(self.sigmas) >= CLEAR


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Row:
    """One metric over the runs: its lines and levels, in the order of the runs."""

    key: str
    lines: tuple[Line, ...]
    levels: tuple[Level, ...]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Comparison:
    """Runs side by side.

    Attributes:
        names: what each run is called.
        axis: what they are aligned by.
        first: where the range that all runs cover begins.
        last: where it ends.
        rows: the metrics that all runs have.
        only_some: the metrics that only some of them have.
        problems: what could not be read of the runs, a line each.
        notes: what was read besides what was named, a line each.
    """

    names: tuple[str, ...]
    axis: Axis
    first: float
    last: float
    rows: tuple[Row, ...]
    only_some: tuple[str, ...]
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def compare(tables: Sequence[Table], axis: Axis) -> Comparison:
    """Align runs and compare each metric that all of them have.

    Args:
        tables: the runs, at least two; the first is what the others are compared with.
        axis: steps; tokens so far; or seconds since the run's first record.

    Raises:
        UsageError: a run lacks what the axis needs, no metric is common, or no part of the axis.
    """
    places = places_on(tables, axis)
    first, last = max(float(at[0]) for _, at in places), min(float(at[-1]) for _, at in places)
    if first > last:
        spans = "; ".join(f"{t.name}: {at[0]:g} to {at[-1]:g}" for t, (_, at) in zip(tables, places, strict=True))
        raise UsageError(f"the runs have no part of the axis {axis} in common: {spans}", remedy="align by another axis")
    keys = keys_of_all(tables)
    if not keys:
        raise UsageError(
            "the runs have no metric in common", remedy="compare runs of one trainer, or export and rename their keys"
        )
    rows = []
    for key in keys:
        lines = tuple(_line(table, key, *place) for table, place in zip(tables, places, strict=True))
        rows.append(Row(key=key, lines=lines, levels=_levels(lines, first, last)))
    everywhere = {column.key for table in tables for column in table.columns}
    return Comparison(
        names=_distinct([table.name for table in tables]),
        axis=axis,
        first=first,
        last=last,
        rows=tuple(rows),
        only_some=tuple(sorted(everywhere - set(keys))),
        problems=tuple(dict.fromkeys(line for table in tables for line in not_read(table))),
        notes=tuple(dict.fromkeys(f"{table.name}: {table.note}" for table in tables if table.note)),
    )


def _levels(lines: Sequence[Line], first: float, last: float) -> tuple[Level, ...]:
    """Return each run's level at the end of the common range, and its distance from the first run's."""
    ends = [_end(line, first, last) for line in lines]
    (base, base_noise), levels = ends[0], []
    for index, (value, noise) in enumerate(ends):
        together = math.hypot(noise, base_noise)
        difference = value - base
        if index == 0 or math.isnan(difference):
            sigmas = None
        elif difference == 0:
            sigmas = 0.0
        else:
            sigmas = difference / together if together > 0 else math.copysign(math.inf, difference)
        levels.append(Level(value=value, noise=noise, sigmas=sigmas))
    return tuple(levels)


def _end(line: Line, first: float, last: float) -> tuple[float, float]:
    """Return the median of the last values in a range, and the noise of one value within it."""
    inside = line.values[(line.at >= first) & (line.at <= last)]
    if not len(inside):
        return math.nan, 0.0
    late = line.values[(line.at >= last - SHARE * (last - first)) & (line.at <= last)]
    chosen = late if len(late) >= FEWEST else inside[-FEWEST:]
    return float(np.median(chosen)), step_noise(inside)


def _line(table: Table, key: str, steps: NDArray[np.int64], at: Array) -> Line:
    """Return one metric's finite values along the axis."""
    column = table.column(key)
    if column is None:
        return Line(at=np.empty(0), values=np.empty(0))
    found = np.clip(np.searchsorted(steps, column.steps), 0, len(steps) - 1)
    placed = is_usable(column.values) & (steps[found] == column.steps)
    return Line(at=at[found[placed]], values=column.values[placed])


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    """Number the runs whose names are alike."""
    return tuple(
        name if names.count(name) == 1 else f"{name} ({names[: index + 1].count(name)})"
        for index, name in enumerate(names)
    )
