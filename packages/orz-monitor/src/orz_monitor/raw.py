"""Series by the keys that whoever wrote the log gave them, of the rows and columns that count."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orz_monitor.log import Column, Log, Row
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
        last: where the value of each step stands that counts: of the highest precedence the last, [K].
    """

    steps: NDArray[np.int64]
    weights: NDArray[np.int64]
    lines: NDArray[np.int64]
    files: NDArray[np.int64]
    precedences: NDArray[np.float64]
    unique: NDArray[np.int64]
    last: NDArray[np.intp]


def _places(
    steps: NDArray[np.int64],
    weights: NDArray[np.int64],
    lines: NDArray[np.int64],
    files: NDArray[np.int64],
    precedences: NDArray[np.float64],
) -> _Places:
    """Find the different steps, and what counts of each."""
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
    )


def raw_series(log: Log, rows: list[Row]) -> dict[tuple[str, str], Series]:
    """Collect the values of each raw key."""
    shapes: dict[tuple[str, tuple[str, ...]], list[Row]] = defaultdict(list)
    for row in rows:
        shapes[row.dialect, row.keys].append(row)
    parts: dict[tuple[str, str], list[tuple[_Places, NDArray[np.float64]]]] = defaultdict(list)
    for (dialect, keys), alike in shapes.items():
        table = np.frombuffer(b"".join(row.values for row in alike)).reshape(len(alike), len(keys))
        places = _places(
            steps=np.array([row.step for row in alike], dtype=np.int64),
            weights=np.array([row.count for row in alike], dtype=np.int64),
            lines=np.array([row.line for row in alike], dtype=np.int64),
            files=np.array([row.file for row in alike], dtype=np.int64),
            precedences=np.array([row.precedence for row in alike], dtype=np.float64),
        )
        for column, key in enumerate(keys):
            parts[dialect, key].append((places, table[:, column]))
    return {place: _series(place, found, log) for place, found in parts.items()}


def _series(place: tuple[str, str], parts: list[tuple[_Places, NDArray[np.float64]]], log: Log) -> Series:
    """Make a series: of several values in a step, parts of a bar are averaged, and of lines one counts."""
    places, values = parts[0] if len(parts) == 1 else _joined(parts)
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
        lines=places.lines[last],
        files=places.files[last],
        quanta=precision.quanta(kept) if precision is not None else None,
    )


def _joined(parts: list[tuple[_Places, NDArray[np.float64]]]) -> tuple[_Places, NDArray[np.float64]]:
    """Put the values of a key from rows of several shapes together."""
    columns = {
        name: np.concatenate([getattr(places, name) for places, _ in parts])
        for name in ("steps", "weights", "lines", "files", "precedences")
    }
    return _places(**columns), np.concatenate([values for _, values in parts])


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
