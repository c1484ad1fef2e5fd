"""Records one after the other, stitched over restarts into a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from orz_monitor.console import Traceback
from orz_monitor.records import EventRecord, Line, StepRecord, describe
from orz_monitor.run import Run, coverage_of
from orz_monitor.series import Series


class StitchedRecords:
    """The records of one file, the later attempt winning where a restart repeats steps.

    Args:
        path: the file.

    Attributes:
        path: the file.
        records: the steps that count, each with its line number.
        events: the events in order.
        restarts: steps with which a later attempt began.
        unreadable: lines that hold no record.
        num_records: how many lines hold one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: dict[int, tuple[StepRecord, int]] = {}
        self.events: list[EventRecord] = []
        self.restarts: list[int] = []
        self.unreadable: list[Line] = []
        self.num_records = 0
        self._resumed = False

    def add(self, line: Line) -> None:
        """Take one line of the file."""
        if line.record is None:
            self.unreadable.append(line)
            return
        self.num_records += 1
        if isinstance(line.record, StepRecord):
            self._add_step(line.record, line.number)
        else:
            self.events.append(line.record)
            if line.record.event == "resume":
                self._resumed = True
                if line.record.step is not None:
                    self._drop_from(line.record.step + 1)

    def _add_step(self, record: StepRecord, number: int) -> None:
        """Take a step; going back to an earlier one is a restart, whether or not it was announced."""
        repeated = bool(self.records) and record.step <= next(reversed(self.records))
        if repeated:
            self._drop_from(record.step)
        if self._resumed or repeated:
            self.restarts.append(record.step)
            self._resumed = False
        self.records[record.step] = (record, number)

    def _drop_from(self, step: int) -> None:
        """Forget the steps that a restart has undone."""
        for undone in [known for known in self.records if known >= step]:
            del self.records[undone]

    def run(self, path: Path, folder: Path | None, *, traceback: Traceback | None = None, now: float) -> Run:
        """Turn the records into series.

        Args:
            path: what the user gave.
            folder: the run folder that the file belongs to, or None.
            traceback: what the console log ends with, or None.
            now: the time of judging, seconds since the Unix epoch.
        """
        steps = np.array(list(self.records), dtype=np.int64)
        records = [record for record, _ in self.records.values()]
        names = {name for record in records for name in record.metrics}
        phases = {phase for record in records for phase in record.seconds}
        return Run(
            name=(folder or path).resolve().name,
            path=self.path,
            folder=folder,
            steps=steps,
            metrics={
                name: self._series(name, [(r.step, r.metrics.get(name)) for r in records]) for name in sorted(names)
            },
            seconds={
                name: self._series(name, [(r.step, r.seconds.get(name)) for r in records]) for name in sorted(phases)
            },
            times=self._series("time", [(r.step, r.time) for r in records]),
            events=tuple(self.events),
            restarts=tuple(self.restarts),
            lines={step: number for step, (_, number) in self.records.items()},
            coverage=coverage_of(names, num_records=self.num_records, unreadable=self.unreadable),
            traceback=traceback,
            now=now,
            files=(self.path,),
            has_whole_steps=True,
        )

    def _series(self, name: str, points: list[tuple[int, float | None]]) -> Series:
        """Build a series from the steps that have a value."""
        known = [(step, value) for step, value in points if value is not None]
        spec = describe(name)
        return Series(
            name=name,
            steps=np.array([step for step, _ in known], dtype=np.int64),
            values=np.array([value for _, value in known], dtype=np.float64),
            raw_keys=(name,),
            unit=spec.unit if spec is not None else "",
            lines=np.array([self.records[step][1] for step, _ in known], dtype=np.int64),
            files=np.zeros(len(known), dtype=np.int64),
        )
