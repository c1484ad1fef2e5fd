"""What stands in a log: rows of numbers, ticks of progress bars, events and columns, each with its place."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from orz_monitor.transport.prefixes import NOWHERE, Origin

NO_STEP: Final = int(np.iinfo(np.int64).min)
"""In an array of steps: none."""


@dataclass(kw_only=True, slots=True, eq=False)
class Row:
    """The numbers of one metric line, or the mean over the frames of one pass of a progress bar.

    Attributes:
        dialect: name of the dialect that read it.
        keys: raw keys, [K].
        values: f64, [K]; percentages are fractions, times are seconds, sizes are bytes.
        line: line number in its file, from 1.
        file: index into `Log.files`.
        offset: bytes before it on its line, escapes not counted; 0 where it has the line for itself.
        step: the step it belongs to; None until the dialect's `number` finds it.
        axis: what is counted, where that is not the training step (`eval`, `train`, `rollout`).
        time: seconds since the Unix epoch, or None.
        origin: the process that printed it.
        count: frames that `values` are the mean of; 1 for a line.
        bar: first and last counter and the total of a bar's frames, or None for a line.
        num_unnamed: numbers without a name beside them, which are no values.
    """

    dialect: str
    keys: tuple[str, ...]
    values: array[float]
    line: int
    file: int = 0
    offset: int = 0
    step: int | None = None
    axis: str = ""
    time: float | None = None
    origin: Origin = NOWHERE
    count: int = 1
    bar: tuple[int, int, int | None] | None = None
    num_unnamed: int = 0

    def join(self, means: Iterable[float], count: int) -> None:
        """Become the mean over its own frames and `count` others, whose means are given, [K]."""
        share = count / (self.count + count)
        for index, (own, other) in enumerate(zip(self.values, means, strict=True)):
            apart = other - own
            self.values[index] = own + share * apart if math.isfinite(apart) else (1 - share) * own + share * other
        self.count += count


@dataclass(kw_only=True, slots=True, eq=False)
class Rows:
    """Many metric lines with the same keys as columns: an object for each would cost more than its numbers.

    Attributes:
        dialect: name of the dialect that read them.
        keys: raw keys, [K].
        values: f64, [K, M], a key's values side by side; in base units, as in `Row`.
        lines: i64, [M], line numbers in the file, increasing; each row has its line for itself.
        steps: i64, [M], the step that each belongs to; `NO_STEP` until the dialect's `number_rows` finds it.
        times: f64, [M], seconds since the Unix epoch; NaN where the line has none.
        processes: the processes that printed them.
        origins: i64, [M], who of `processes` printed each.
        file: index into `Log.files`.
        axis: what is counted, where that is not the training step.
    """

    dialect: str
    keys: tuple[str, ...]
    values: NDArray[np.float64]
    lines: NDArray[np.int64]
    steps: NDArray[np.int64]
    times: NDArray[np.float64]
    processes: tuple[Origin, ...]
    origins: NDArray[np.int64]
    file: int = 0
    axis: str = ""

    def __len__(self) -> int:
        return len(self.lines)

    def row(self, index: int) -> Row:
        """Return one of them on its own."""
        step, time = int(self.steps[index]), float(self.times[index])
        return Row(
            dialect=self.dialect,
            keys=self.keys,
            values=array("d", self.values[:, index].tobytes()),
            line=int(self.lines[index]),
            file=self.file,
            step=step if step != NO_STEP else None,
            axis=self.axis,
            time=None if math.isnan(time) else time,
            origin=self.processes[int(self.origins[index])],
        )


@dataclass(kw_only=True, slots=True, eq=False)
class Tick:
    """Where a progress bar stood; refreshes of one bar in a row are one tick.

    Attributes:
        dialect: name of the dialect that read it.
        name: the bar's description.
        done: its counter.
        total: what it counts to, or None.
        line: line number in its file, from 1.
        file: index into `Log.files`.
        offset: bytes before it on its line, escapes not counted; 0 where it has the line for itself.
        time: seconds since the Unix epoch, or None.
        elapsed_s: seconds since the bar began, or None.
    """

    dialect: str
    name: str
    done: int
    total: int | None
    line: int
    file: int = 0
    offset: int = 0
    time: float | None = None
    elapsed_s: float | None = None


@dataclass(kw_only=True, slots=True, eq=False)
class Event:
    """Something that happened, in the names of `records.EVENTS` and these.

    `ref_update` (the reference became the policy), `config` (`data` holds settings), `fault` (`data.kind` is one of
    `dialects.fault_shapes.KINDS`), `notice` (anything a rule looks at by `data.kind`).

    Attributes:
        event: its name.
        line: line number in its file, from 1.
        file: index into `Log.files`.
        offset: bytes before it on its line, escapes not counted; 0 where it has the line for itself.
        dialect: name of the dialect that read it.
        step: the step it belongs to, or None.
        time: seconds since the Unix epoch, or None.
        origin: the process that printed it.
        data: details, of JSON types.
    """

    event: str
    line: int
    file: int = 0
    offset: int = 0
    dialect: str = ""
    step: int | None = None
    time: float | None = None
    origin: Origin = NOWHERE
    data: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Column:
    """One metric of a store (TensorBoard, W&B, MLflow, trackio, JSONL, CSV).

    Attributes:
        key: raw key.
        steps: [K] i64, in the order of the store; may repeat and go back where a run was restarted.
        values: [K] f64.
        times: [K] f64, seconds since the Unix epoch; NaN where the store has none.
        file: the file it was read from.
    """

    key: str
    steps: NDArray[np.int64]
    values: NDArray[np.float64]
    times: NDArray[np.float64]
    file: Path


Entry: TypeAlias = Row | Tick | Event


def place(entry: Entry) -> tuple[int, int, int]:
    """Return file, line and offset: by these, entries are in the order in which they were printed."""
    return entry.file, entry.line, entry.offset


@dataclass(kw_only=True, slots=True)
class FileFacts:
    """What is known of one file that was read.

    Attributes:
        path: the file.
        num_bytes: its size, decompressed.
        num_lines: lines in it.
        num_cut_lines: lines that were too long to be read whole.
        num_missed_lines: lines that look like metrics and hold the gate of a dialect, but that none understood.
        lone_keys: known names of metrics on lines with a step, which are too few to tell a trainer's log by.
        num_lone_lines: how many lines hold these.
    """

    path: Path
    num_bytes: int = 0
    num_lines: int = 0
    num_cut_lines: int = 0
    num_missed_lines: int = 0
    lone_keys: tuple[str, ...] = ()
    num_lone_lines: int = 0


def is_later_tick(entry: Entry, before: Entry) -> bool:
    """Tell whether an entry is a tick that takes the place of the one right before it: of the same bar."""
    return (
        isinstance(entry, Tick)
        and isinstance(before, Tick)
        and (entry.name, entry.file, entry.total) == (before.name, before.file, before.total)
    )
