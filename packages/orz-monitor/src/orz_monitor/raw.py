"""Series by the keys that whoever wrote the log gave them, of the rows and columns that count."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orz_monitor.ledger import Ledger
from orz_monitor.log import Column, Log
from orz_monitor.series import Series


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Places:
    """Where the values of a raw key stand; the keys of one shape share it.

    Attributes:
        steps: i64, [M].
        weights: frames that each value is the mean of, [M].
        lines: i64, [M].
        files: i64, [M].
        precedences: of several values of a step the one with the highest counts, [M].
        unique: the different steps, [K].
        last: where the value of each step stands that counts: of the highest precedence the last, [K]; or all of them.
        last_lines: i64, the lines of these, [K].
        last_files: i64, the files of these, [K].
    """

    steps: NDArray[np.int64]
    weights: NDArray[np.int64]
    lines: NDArray[np.int64]
    files: NDArray[np.int64]
    precedences: NDArray[np.float64]
    unique: NDArray[np.int64]
    last: NDArray[np.intp] | slice
    last_lines: NDArray[np.int64]
    last_files: NDArray[np.int64]


def _places(
    steps: NDArray[np.int64],
    weights: NDArray[np.int64],
    lines: NDArray[np.int64],
    files: NDArray[np.int64],
    precedences: NDArray[np.float64],
) -> _Places:
    """Find the different steps, and what counts of each."""
    last: NDArray[np.intp] | slice = slice(None)
    unique = steps
    if (np.diff(steps) <= 0).any():
        order = np.lexsort((lines, files, precedences, steps))
        unique, first, counts = np.unique(steps[order], return_index=True, return_counts=True)
        last = order[first + counts - 1]
    return _Places(
        steps=steps,
        weights=weights,
        lines=lines,
        files=files,
        precedences=precedences,
        unique=unique,
        last=last,
        last_lines=lines[last],
        last_files=files[last],
    )


def raw_series(log: Log, ledger: Ledger) -> dict[tuple[str, str], Series]:
    """Collect the values of each raw key.

    Args:
        log: knows how precisely they were printed.
        ledger: the rows that count, each with a step.
    """
    parts: dict[tuple[str, str], list[tuple[int, NDArray[np.float64]]]] = defaultdict(list)
    places: dict[tuple[int, ...], _Places] = {}
    for number, rows in enumerate(ledger.groups(ledger.shape)):
        shape = int(ledger.shape[rows[0]])
        dialect, keys = ledger.shapes[shape]
        places[number,] = _places(
            steps=ledger.step[rows],
            weights=ledger.count[rows],
            lines=ledger.line[rows],
            files=ledger.file[rows],
            precedences=ledger.precedence[rows],
        )
        table, at = ledger.tables[shape], ledger.at[rows]
        chosen = slice(None) if np.array_equal(at, np.arange(table.shape[1])) else at
        for key, values in zip(keys, table, strict=True):
            parts[dialect, key].append((number, values[chosen]))
    found: dict[tuple[str, str], Series] = {}
    for place, values_of in parts.items():
        numbers = tuple(number for number, _ in values_of)
        if numbers not in places:
            places[numbers] = _joined([places[number,] for number in numbers])
        values = values_of[0][1] if len(values_of) == 1 else np.concatenate([values for _, values in values_of])
        found[place] = _series(place, places[numbers], values, log)
    return found


def _series(place: tuple[str, str], places: _Places, values: NDArray[np.float64], log: Log) -> Series:
    """Make a series: of several values in a step, parts of a bar are averaged, and of lines one counts."""
    unique, last = places.unique, places.last
    kept = values[last]
    if len(unique) < len(values) and places.weights.max() > 1:
        of_step = np.searchsorted(unique, places.steps)
        with np.errstate(invalid="ignore", over="ignore"):
            kept = np.bincount(of_step, places.weights * values) / np.bincount(of_step, places.weights)
    precision = log.precisions.get(place)
    return Series(
        name=place[1],
        steps=unique,
        values=kept,
        raw_keys=(place[1],),
        lines=places.last_lines,
        files=places.last_files,
        quanta=precision.quanta(kept) if precision is not None else None,
    )


def _joined(parts: Sequence[_Places]) -> _Places:
    """Put the places of rows of several shapes together."""
    names = ("steps", "weights", "lines", "files", "precedences")
    return _places(**{name: np.concatenate([getattr(places, name) for places in parts]) for name in names})


def column_series(columns: list[Column], log: Log, framework: str) -> dict[tuple[str, str], Series]:
    """Turn the columns of stores into series; a step that is repeated counts as it was last."""
    found: dict[tuple[str, str], Series] = {}
    for column in columns:
        keep = _last_of_each(column.steps)
        steps = column.steps[keep]
        file = next((i for i, facts in enumerate(log.files) if facts.path == column.file), None)
        found[framework, column.key] = Series(
            name=column.key,
            steps=steps,
            values=column.values[keep],
            raw_keys=(column.key,),
            files=np.full(len(steps), file, dtype=np.int64) if file is not None else None,
        )
    return found


def _last_of_each(steps: NDArray[np.int64]) -> NDArray[np.intp]:
    """Return where each step stands last, leaving out steps that a later restart has undone."""
    lowest = np.minimum.accumulate(steps[::-1])[::-1] if len(steps) else steps
    valid = np.flatnonzero(steps <= lowest)  # nothing after it is lower
    order = valid[np.argsort(steps[valid], kind="stable")]
    _, first, counts = np.unique(steps[order], return_index=True, return_counts=True)
    return np.asarray(order[first + counts - 1], dtype=np.intp)
