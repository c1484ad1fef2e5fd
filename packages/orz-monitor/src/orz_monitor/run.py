"""A training run, as its records tell it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from orz_monitor.console import Traceback
from orz_monitor.metrics.peers import spec_of
from orz_monitor.plan import Plan
from orz_monitor.presets import PLAINEST, Detected, detect, trains_critic
from orz_monitor.records import EventRecord, Line
from orz_monitor.series import Series, is_usable
from orz_monitor.settings import settings_of

_OF_ENGINES: Final = "engine/"
"""How the names of inference engines' own metrics begin."""
_EMPTY: Final = (np.empty(0, dtype=np.int64), np.empty(0))


class State(StrEnum):
    """Where a run is in its life."""

    FINISHED = "finished"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    UNFINISHED = "unfinished"
    """Neither finished nor failed: it runs, or stopped without a word; the clock tells."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Coverage:
    """How much of the input was understood.

    Attributes:
        num_records: records that count, each a row of metrics.
        unreadable: lines that are no record.
        recognised: names of known metrics that were logged, ours and peers'.
        unrecognised: other metric names.
        unread: raw keys of metric lines of which no value was a number.
        num_missed_lines: lines that look like metrics, and that nobody understood.
        num_unnamed: numbers without a name beside the metrics that count.
        num_dropped_keys: keys beyond those that are kept, `log.MOST_KEYS`, whose values are left out.
        num_lines: lines of the logs; 0 for records and stores.
        num_metric_lines: how many of them hold metrics, also of a process or attempt that does not count.
    """

    num_records: int
    unreadable: tuple[Line, ...]
    recognised: tuple[str, ...]
    unrecognised: tuple[str, ...]
    unread: tuple[str, ...] = ()
    num_missed_lines: int = 0
    num_unnamed: int = 0
    num_dropped_keys: int = 0
    num_lines: int = 0
    num_metric_lines: int = 0

    @property
    def of_training(self) -> tuple[str, ...]:
        """The names that were recognised and say something of training, as those of an inference engine don't."""
        return tuple(name for name in self.recognised if not name.startswith(_OF_ENGINES))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Run:
    """One run: its series, its events and what is known about its end.

    Attributes:
        name: how reports call it.
        path: the records file.
        folder: the run folder, or None for a records file on its own.
        steps: [K] i64, the steps that have a record, strictly increasing.
        metrics: metric name to series.
        seconds: phase to series.
        times: when each step ended, seconds since the Unix epoch.
        events: events in the order of the file.
        restarts: the first step after each restart.
        lines: step to the line number of its first record.
        step_files: step to the file of that line, as an index into `files`; `path` for a step that is not there.
        coverage: how much of the input was understood.
        traceback: an exception at the end of the console log.
        now: the time of judging, seconds since the Unix epoch.
        framework: the trainer that wrote the log: `orz-train`, `orz`, `verl`, `trl`, ...
        files: the files that were read, which `Series.files` counts.
        folded: rows left out because another process of the job had printed the same.
        mixed: rows left out because a process that does not say who it is had printed another for the same step.
        chosen_preset: the kind of run that the user named; empty where it is to be recognised.
        earlier: earlier parts of the log that was named, the oldest first, which were read with it.
        problems: parts of a store or of compressed logs that could not be read, a line each.
        is_store: whether it was read from the store of another tool, and from no log.
        config: settings that the log or store itself holds, dotted name to value as text.
        has_whole_steps: whether a step is written at once, and not piece by piece.
        hints: how to have the trainer log a metric, as the dialect that read most lines has it: by canonical name.
        ahead: the last event that the console log beside the records has of a step that these don't reach, or None.
        plan: what the trainer's bar of steps says of the steps to come, or None.
    """

    name: str
    path: Path
    folder: Path | None
    steps: NDArray[np.int64]
    metrics: Mapping[str, Series]
    seconds: Mapping[str, Series]
    times: Series
    events: tuple[EventRecord, ...]
    restarts: tuple[int, ...]
    lines: Mapping[int, int]
    coverage: Coverage
    traceback: Traceback | None
    now: float
    framework: str = "orz-train"
    files: tuple[Path, ...] = ()
    step_files: Mapping[int, int] = field(default_factory=dict)
    folded: int = 0
    mixed: int = 0
    hints: Mapping[str, str] = field(default_factory=dict)
    chosen_preset: str = ""
    earlier: tuple[Path, ...] = ()
    problems: tuple[str, ...] = ()
    is_store: bool = False
    config: Mapping[str, str] = field(default_factory=dict)
    has_whole_steps: bool = False
    ahead: EventRecord | None = None
    plan: Plan | None = None
    _finite: dict[str, Series] = field(default_factory=dict, init=False, repr=False)
    _extents: dict[str, tuple[float, float]] = field(default_factory=dict, init=False, repr=False)

    def series(self, name: str) -> Series:
        """Return a metric's finite values; an empty series if it was not logged."""
        known = self._finite.get(name)
        if known is None:
            series = self.metrics.get(name)
            known = series.finite() if series is not None else Series(name=name, steps=_EMPTY[0], values=_EMPTY[1])
            self._finite[name] = known
        return known

    def extent(self, name: str) -> tuple[float, float]:
        """Return a metric's smallest and largest value; twice 0 if it was not logged."""
        known = self._extents.get(name)
        if known is None:
            values = self.series(name).values
            known = (float(values.min()), float(values.max())) if len(values) else (0.0, 0.0)
            self._extents[name] = known
        return known

    def largest(self, name: str) -> float:
        """Return a metric's largest absolute value; 0 if it was not logged."""
        return max(abs(value) for value in self.extent(name))

    def logged(self, name: str) -> bool:
        """Tell whether a metric has any finite value."""
        return len(self.series(name)) > 0

    @property
    def state(self) -> State:
        """Where the run is in its life, from its last word."""
        for event in reversed(self.events):
            if event.event == "finish":
                return State.FINISHED
            if event.event == "error":
                return State.FAILED
            if event.event == "interrupted":
                return State.INTERRUPTED
            if event.event in {"start", "resume"}:
                break
        return State.FAILED if self.traceback is not None else State.UNFINISHED

    @property
    def last_progress(self) -> float | None:
        """When the run last wrote a record, seconds since the Unix epoch."""
        return max(self.moments, default=None)

    @property
    def moments(self) -> list[float]:
        """When records were written, seconds since the Unix epoch, in no order."""
        events = np.array([event.time for event in self.events], dtype=np.float64)
        return [*self.times.finite().values.tolist(), *events[is_usable(events)].tolist()]

    @property
    def settings(self) -> Mapping[str, str]:
        """Its configuration, dotted name to value as text; empty where there is none."""
        return {**self.config, **settings_of(self.folder)}

    @property
    def preset(self) -> str:
        """The kind of run, which decides on rules and thresholds: a name in `orz_monitor.presets`."""
        return self.kind.name

    @property
    def kind(self) -> Detected:
        """The kind of run, and by what it was recognised."""
        if self.chosen_preset:
            return Detected(name=self.chosen_preset, why="you said so")
        if not self.coverage.of_training:
            return Detected(name=PLAINEST, why="no known metric tells its kind")
        ages = self.series("staleness/mean").values
        return detect(
            self.metrics,
            self.settings,
            framework=self.framework,
            staleness=float(np.median(ages)) if len(ages) else 0.0,
        )

    @property
    def has_critic(self) -> bool:
        """Whether a critic is trained."""
        return trains_critic(self.metrics)

    def marks(self, event: str) -> tuple[int, ...]:
        """Return the steps of all events of one name."""
        return tuple(record.step for record in self.events if record.event == event and record.step is not None)

    def place_of(self, step: int | None, metric: str = "") -> tuple[Path, int | None]:
        """Return file and line of a metric's value at a step, or at the next step that has one.

        Where the metric has no line of its own, it is the step's first record.
        """
        if step is None:
            return self.path, None
        series = self.metrics.get(metric, self.seconds.get(metric.removeprefix("seconds.")))
        if series is not None and series.lines is not None and len(series):
            index = _from(series.steps, step)
            file = int(series.files[index]) if series.files is not None else len(self.files)
            return (self.files[file] if file < len(self.files) else self.path), int(series.lines[index])
        if not len(self.steps):
            return self.path, None
        known = int(self.steps[_from(self.steps, step)])
        file = self.step_files.get(known, len(self.files))
        return (self.files[file] if file < len(self.files) else self.path), self.lines.get(known)


def _from(steps: NDArray[np.int64], step: int) -> int:
    """Return the index of a step, or of the next one that is there, or of the last."""
    return min(int(np.searchsorted(steps, step)), len(steps) - 1)


def coverage_of(
    names: set[str], *, num_records: int, unreadable: list[Line], known: frozenset[str] = frozenset()
) -> Coverage:
    """Sort metric names into those of ours, of a peer, or otherwise known, and the others."""
    recognised = {name for name in names if name in known or spec_of(name) is not None}
    return Coverage(
        num_records=num_records,
        unreadable=tuple(unreadable),
        recognised=tuple(sorted(recognised)),
        unrecognised=tuple(sorted(names - recognised)),
    )
