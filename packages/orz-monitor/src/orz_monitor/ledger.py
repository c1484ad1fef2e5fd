"""The rows of a log as columns: what is asked of all of them is asked of arrays, and not of each row."""

from __future__ import annotations

import math
from array import array
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import chain, pairwise
from typing import Any, Final, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from orz_monitor.bulk import own_memory
from orz_monitor.entries import NO_STEP, Entry, Row, Rows, place
from orz_monitor.log import Log
from orz_monitor.transport.prefixes import Origin

Shape: TypeAlias = tuple[str, tuple[str, ...]]
"""Dialect and raw keys."""
_A_ROW: Final = {"a_row": True}
_MOST_RUNS: Final = 1000
"""More of them are faster placed one by one."""
_Named = TypeVar("_Named", bound=Hashable)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Ledger:
    """Rows as columns, in the order in which they were printed.

    Attributes:
        shapes: the different shapes.
        tables: the values of each shape, f64, [K, M].
        axes: the different axes.
        processes: the different processes.
        shape: i64, [N], index into `shapes`.
        at: i64, [N], where in the table of its shape the values of a row are.
        file: i64, [N], index into `Log.files`.
        line: i64, [N], line number.
        offset: i64, [N], bytes before it on its line.
        step: i64, [N]; `NO_STEP` where none is known.
        time: f64, [N], seconds since the Unix epoch; NaN where none is known.
        axis: i64, [N], index into `axes`, of which the first is the training step.
        process: i64, [N], index into `processes`.
        count: i64, [N], frames that the values are the mean of; 1 for a line.
        is_bar: bool, [N], whether the values are of a bar's pass.
        num_unnamed: i64, [N], numbers without a name beside its values.
        precedence: f64, [N]; of several rows of a step the one with the highest counts, and of those the last.
    """

    shapes: list[Shape]
    tables: list[NDArray[np.float64]]
    axes: list[str]
    processes: list[Origin]
    shape: NDArray[np.int64] = field(metadata=_A_ROW)
    at: NDArray[np.int64] = field(metadata=_A_ROW)
    file: NDArray[np.int64] = field(metadata=_A_ROW)
    line: NDArray[np.int64] = field(metadata=_A_ROW)
    offset: NDArray[np.int64] = field(metadata=_A_ROW)
    step: NDArray[np.int64] = field(metadata=_A_ROW)
    time: NDArray[np.float64] = field(metadata=_A_ROW)
    axis: NDArray[np.int64] = field(metadata=_A_ROW)
    process: NDArray[np.int64] = field(metadata=_A_ROW)
    count: NDArray[np.int64] = field(metadata=_A_ROW)
    is_bar: NDArray[np.bool_] = field(metadata=_A_ROW)
    num_unnamed: NDArray[np.int64] = field(metadata=_A_ROW)
    precedence: NDArray[np.float64] = field(metadata=_A_ROW)

    def __len__(self) -> int:
        return len(self.line)

    def only(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> Ledger:
        """Return some of the rows, by a mask or by their places."""
        if chosen.dtype == np.bool_ and chosen.all():
            return self
        names = [one.name for one in fields(self) if one.metadata == _A_ROW]
        return replace(self, **{name: getattr(self, name)[chosen] for name in names})

    @property
    def num_lines(self) -> int:
        """On how many lines of all files its rows stand."""
        return int(np.count_nonzero((np.diff(self.file) != 0) | (np.diff(self.line) != 0))) + bool(len(self))

    def groups(self, *columns: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Return the places of the rows that have the same in all columns, in order of their first."""
        if not len(self):
            return []
        order = np.lexsort(columns) if len(columns) > 1 else np.argsort(columns[0], kind="stable")
        changes = np.any([np.diff(column[order]) != 0 for column in columns], axis=0)
        return sorted(np.split(order, np.flatnonzero(changes) + 1), key=lambda group: int(group[0]))

    def alike(self, ones: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell which rows, by their places [M], hold the same numbers as others of one shape, [M]."""
        if not len(ones):
            return np.zeros(0, dtype=np.bool_)
        bits = self.tables[int(self.shape[ones[0]])].view(np.int64)  # bits, since NaN is not equal to itself
        return np.asarray((bits[:, self.at[ones]] == bits[:, self.at[others]]).all(axis=0), dtype=np.bool_)

    def num_before(self, entry: Entry) -> int:
        """Return how many rows stand before an entry or at its place."""
        start, stop = 0, len(self)
        for column, value in zip((self.file, self.line, self.offset), place(entry), strict=True):
            part = column[start:stop]
            start, stop = start + int(np.searchsorted(part, value)), start + int(np.searchsorted(part, value, "right"))
        return stop


def ledger_of(log: Log) -> Ledger:
    """Return all rows of a log as columns; its rows in bulk are taken: two copies would be most of the memory."""
    alone = [entry for entry in log.entries if isinstance(entry, Row)]
    bulk = log.take_bulk()
    sizes = [len(rows) for rows in bulk]
    shapes: dict[Shape, int] = {}
    axes: dict[str, int] = {"": 0}
    processes: dict[Origin, int] = {}
    numbered = [shapes.setdefault((rows.dialect, rows.keys), len(shapes)) for rows in chain[Row | Rows](alone, bulk)]
    origins = [_numbers(processes, rows.processes)[rows.origins] for rows in bulk]

    def unsorted(ours: Iterable[float], *others: NDArray[Any], dtype: type = np.int64) -> NDArray[Any]:
        return np.concatenate([np.array(list(ours), dtype=dtype), *others])

    def whole(value: float, dtype: type = np.int64) -> NDArray[Any]:
        return np.full(sum(sizes), value, dtype=dtype)

    shape = np.array(numbered, dtype=np.int64).repeat([1] * len(alone) + sizes)
    file = unsorted((row.file for row in alone), np.array([rows.file for rows in bulk], dtype=np.int64).repeat(sizes))
    line = unsorted((row.line for row in alone), *(rows.lines for rows in bulk))
    offset = unsorted((row.offset for row in alone), whole(0))
    order = np.lexsort((offset, line, file))
    at = _ranks(shape, order)

    def column(ours: Iterable[float], *others: NDArray[Any], dtype: type = np.int64) -> NDArray[Any]:
        return np.asarray(unsorted(ours, *others, dtype=dtype)[order])

    columns = {
        "step": column((NO_STEP if row.step is None else row.step for row in alone), *(rows.steps for rows in bulk)),
        "time": column(
            (math.nan if row.time is None else row.time for row in alone),
            *(rows.times for rows in bulk),
            dtype=np.float64,
        ),
        "axis": column(
            _numbers(axes, [row.axis for row in alone]), _numbers(axes, [rows.axis for rows in bulk]).repeat(sizes)
        ),
        "process": column(_numbers(processes, [row.origin for row in alone]), *origins),
        "count": column((row.count for row in alone), whole(1)),
        "is_bar": column((row.bar is not None for row in alone), whole(0, np.bool_), dtype=np.bool_),
        "num_unnamed": column((row.num_unnamed for row in alone), whole(0)),
    }
    return Ledger(
        shapes=list(shapes),
        tables=_tables(alone, bulk, shapes, at),
        axes=list(axes),
        processes=list(processes),
        shape=shape[order],
        at=at[order],
        file=file[order],
        line=line[order],
        offset=offset[order],
        precedence=np.zeros(len(shape)),
        **columns,
    )


def _numbers(known: dict[_Named, int], names: Iterable[_Named]) -> NDArray[np.int64]:
    """Return the number of each name; a new one gets the next."""
    return np.array([known.setdefault(name, len(known)) for name in names], dtype=np.int64)


def _ranks(shape: NDArray[np.int64], order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return which of its shape each row is, in an order of all rows."""
    ranks = np.empty_like(order)
    by_shape = order[np.argsort(shape[order], kind="stable")]
    ranks[by_shape] = np.arange(len(order)) - np.searchsorted(shape[by_shape], shape[by_shape])
    return ranks


def _tables(
    alone: Sequence[Row], bulk: list[Rows], shapes: Mapping[Shape, int], at: NDArray[np.int64]
) -> list[NDArray[np.float64]]:
    """Put the values of each shape together, at the places that are given for all rows, first those alone.

    `bulk` is empty afterwards: what was copied of it is given back before more is taken.
    """
    lone: list[tuple[list[int], list[array[float]]]] = [([], []) for _ in shapes]
    sizes = [0] * len(shapes)
    for rank, row in zip(at.tolist(), alone, strict=False):
        number = shapes[row.dialect, row.keys]
        lone[number][0].append(rank)
        lone[number][1].append(row.values)
        sizes[number] += 1
    for rows in bulk:
        sizes[shapes[rows.dialect, rows.keys]] += len(rows)
    tables = [own_memory(len(keys), size) for (_, keys), size in zip(shapes, sizes, strict=True)]
    for table, (ranks, values) in zip(tables, lone, strict=True):
        table[:, ranks] = np.frombuffer(b"".join(values)).reshape(len(ranks), len(table)).T
    start = len(alone)
    bulk.reverse()
    while bulk:
        rows = bulk.pop()
        places, start = at[start : start + len(rows)], start + len(rows)
        _place(rows.values, tables[shapes[rows.dialect, rows.keys]], places)
    return tables


def _place(values: NDArray[np.float64], table: NDArray[np.float64], places: NDArray[np.int64]) -> None:
    """Copy columns [K, M] to increasing places in a table: those that stay together at once, without a copy between."""
    cuts = [0, *(np.flatnonzero(np.diff(places) != 1) + 1).tolist(), len(places)]
    if len(cuts) > _MOST_RUNS:
        table[:, places] = values
        return
    for begin, end in pairwise(cuts) if len(places) else ():
        table[:, places[begin] : places[begin] + end - begin] = values[:, begin:end]
