"""A run as a table: a row a step, a column a metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from orz_monitor.dialects import Dialect
from orz_monitor.loading import load_run
from orz_monitor.log import Column
from orz_monitor.rotation import read_with
from orz_monitor.run import Run
from orz_monitor.units import counted

MOST_PROBLEMS: Final = 5
"""Of a run, that are told one by one."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Table:
    """All values of one run.

    Attributes:
        name: the run's name.
        columns: a column a key, sorted by key; steps increase strictly within each.
        problems: what could not be read, a line each.
        note: what was read besides what was named; empty for nothing.
    """

    name: str
    columns: tuple[Column, ...]
    problems: tuple[str, ...] = ()
    note: str = ""

    @property
    def steps(self) -> NDArray[np.int64]:
        """[K] i64, every step at which some key has a value, strictly increasing."""
        if not self.columns:
            return np.empty(0, dtype=np.int64)
        return np.unique(np.concatenate([column.steps for column in self.columns]))

    @property
    def times(self) -> NDArray[np.float64]:
        """[K] f64, when each of `steps` ended, seconds since the Unix epoch; NaN where that is not known."""
        steps = self.steps
        latest = np.full(len(steps), -np.inf)
        for column in self.columns:
            known = np.isfinite(column.times)
            np.maximum.at(latest, np.searchsorted(steps, column.steps[known]), column.times[known])
        return np.where(np.isfinite(latest), latest, np.nan)

    def column(self, key: str) -> Column | None:
        """Return the column of a key, or None."""
        return next((column for column in self.columns if column.key == key), None)


def read_table(path: Path, *, raw: bool = False, dialects: Sequence[type[Dialect]] | None = None) -> Table:
    """Read a run's values from a run folder, a log, or a store of another tool.

    Metrics have their canonical names and units, and `seconds/<phase>` beside them; what has no canonical name keeps
    its own.

    Args:
        path: what `load_run` reads.
        raw: keep the keys and values of whoever logged them.
        dialects: the dialects to read with; all known ones by default.

    Raises:
        UnreadableRunError: no run, or several and none was named.
    """
    run = load_run(path, canonical=not raw, dialects=dialects)
    lines = (f"{run.path}, line {line.number}: {line.error}" for line in run.coverage.unreadable)
    return Table(name=run.name, columns=_columns_of(run), problems=(*run.problems, *lines), note=read_with(run.earlier))


def _columns_of(run: Run) -> tuple[Column, ...]:
    """Return a run's metrics and phases as columns."""
    series = dict(run.metrics) | {f"seconds/{name}": phase for name, phase in run.seconds.items()}
    return tuple(
        Column(key=key, steps=found.steps, values=found.values, times=run.times.at(found.steps), file=run.path)
        for key, found in sorted(series.items())
    )


def not_read(table: Table) -> list[str]:
    """Return what could not be read of a run, a line each, at most `MOST_PROBLEMS` and how many more there are."""
    told = list(table.problems[:MOST_PROBLEMS])
    left = len(table.problems) - len(told)
    return [*told, f"and {counted(left, 'place')} more that could not be read"] if left else told


def spread(column: Column, steps: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return a column's values at `steps`, and where it has any: [K] f64 and [K] bool."""
    values, has = np.full(len(steps), np.nan), np.zeros(len(steps), dtype=np.bool_)
    places = np.searchsorted(steps, column.steps)
    values[places], has[places] = column.values, True
    return values, has


def keys_of_all(tables: Sequence[Table]) -> list[str]:
    """Return the keys that every table has, in the order of the first."""
    others = [{column.key for column in table.columns} for table in tables[1:]]
    return [column.key for column in tables[0].columns if all(column.key in keys for keys in others)]
