"""What a store of another tool holds: columns, and what could not be read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from orz_monitor.errors import UnreadableRunError
from orz_monitor.log import Column
from orz_monitor.units import counted

MOST_PROBLEMS: Final = 100
"""Problems listed of one store; a file of damage must not become a report of damage."""
MOST_KEYS: Final = 20_000
"""Keys kept of one store; what hostile input invents beyond them is left out, and told."""
_MOST_LISTED: Final = 8
"""Runs named in a message."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """A part of a store that could not be read.

    Attributes:
        file: where.
        place: the place in it, such as `byte 812` or `line 7`.
        message: what is wrong, and what that means for the rest.
    """

    file: Path
    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}, {self.place}: {self.message}"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Store:
    """One run, as a store of another tool holds it.

    Attributes:
        kind: the tool or format, such as `tensorboard`.
        path: what was read.
        name: the run's name.
        columns: the values by key, sorted by key.
        problems: what could not be read, at most `MOST_PROBLEMS` of it.
        restarts: the first step after each restart that can be seen.
        config: the run's configuration, where the store holds it.
        console: what the run printed, line by line, where the store holds it.
        exit_code: how the run ended; None where it has not, or the store does not say.
        unread: keys of which no value is a number.
    """

    kind: str
    path: Path
    name: str
    columns: tuple[Column, ...]
    problems: tuple[Problem, ...] = ()
    restarts: tuple[int, ...] = ()
    config: Mapping[str, object] = field(default_factory=dict)
    console: tuple[str, ...] = ()
    exit_code: int | None = None
    unread: tuple[str, ...] = ()

    def column(self, key: str) -> Column:
        """Return the column of a key.

        Raises:
            KeyError: the store has no such key.
        """
        for column in self.columns:
            if column.key == key:
                return column
        raise KeyError(key)

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that have values."""
        return tuple(column.key for column in self.columns)


class Points:
    """Collects the values of many keys, one by one, and makes columns of them."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._points: dict[str, list[tuple[int, float, float]]] = {}
        self._restarts: set[int] = set()
        self._unread: set[str] = set()
        self.left_out = 0

    def __bool__(self) -> bool:
        return bool(self._points)

    def add(self, key: str, step: int, value: float, time: float = float("nan")) -> None:
        """Take one value; those of keys beyond `MOST_KEYS` are counted in `left_out` only."""
        known = self._points.get(key)
        if known is not None:
            known.append((step, value, time))
        elif len(self._points) < MOST_KEYS:
            self._points[key] = [(step, value, time)]
        else:
            self.left_out += 1

    def columns(self) -> tuple[Column, ...]:
        """Return a column for each key; a step that goes back undoes what was there from it on."""
        return tuple(self._column(key, points) for key, points in sorted(self._points.items()))

    def add_unread(self, keys: Iterable[str]) -> None:
        """Take keys of values that are no numbers; those beyond `MOST_KEYS` are forgotten."""
        for key in keys:
            if len(self._unread) < MOST_KEYS:
                self._unread.add(key)

    @property
    def unread(self) -> tuple[str, ...]:
        """The keys of which no value was a number."""
        return tuple(sorted(self._unread - self._points.keys()))

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What was left out, if anything was."""
        message = f"{counted(self.left_out, 'value')} left out, of keys beyond the first {MOST_KEYS}"
        return (Problem(file=self.file, place="keys", message=message),) if self.left_out else ()

    @property
    def restarts(self) -> tuple[int, ...]:
        """The steps to which `columns` saw a key go back, each once."""
        return tuple(sorted(self._restarts))

    def _column(self, key: str, points: Sequence[tuple[int, float, float]]) -> Column:
        steps = np.array([step for step, _, _ in points], dtype=np.int64)
        self._restarts.update(steps[1:][np.diff(steps) < 0].tolist())
        keep = undone_left_out(steps)
        return Column(
            key=key,
            steps=steps[keep],
            values=np.array([value for _, value, _ in points], dtype=np.float64)[keep],
            times=np.array([time for _, _, time in points], dtype=np.float64)[keep],
            file=self.file,
        )


def undone_left_out(steps: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which points stay where a step that is repeated, or goes back, undoes those from it on.

    Args:
        steps: [K] i64 in the order of writing.

    Returns:
        [K] bool; the steps that stay increase strictly.
    """
    keep = np.ones(len(steps), dtype=np.bool_)
    if len(steps) > 1:
        keep[:-1] = steps[:-1] < np.minimum.accumulate(steps[::-1])[::-1][1:]
    return keep


def choose(path: Path, runs: Sequence[str], wanted: str | None, *, kind: str) -> str:
    """Return the run that was asked for, or the only one.

    Raises:
        UnreadableRunError: there is none, none of that name, or several and none was named.
    """
    if wanted is None and len(runs) == 1:
        return runs[0]
    if wanted is not None and wanted in runs:
        return wanted
    if not runs:
        raise UnreadableRunError(f"{path}: {kind}, but no run in it", remedy="check that the run has begun to log")
    listed = ", ".join(runs[:_MOST_LISTED]) + (", ..." if len(runs) > _MOST_LISTED else "")
    holds = f"no run '{wanted}' in it; it has" if wanted is not None else f"holds {len(runs)} runs:"
    raise UnreadableRunError(f"{path}: {kind}, {holds} {listed}", remedy=f"name one of them: '{path}#{runs[-1]}'")
