"""Read a run of ours from its `metrics.jsonl`; its console log gives no more than how it ended."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from orz_monitor.console import Traceback, last_traceback
from orz_monitor.errors import UnreadableRunError
from orz_monitor.records import EventRecord, Line, StepRecord, describe, read_records
from orz_monitor.run import Run, coverage_of
from orz_monitor.series import Series

CONSOLE_FILE: Final = "console.log"


def load_records(records_path: Path, path: Path, folder: Path | None, *, now: float) -> Run:
    """Read a records file into series stitched over restarts.

    Args:
        records_path: the `metrics.jsonl`.
        path: what the user gave.
        folder: the run folder that it belongs to, or None.
        now: the time of judging, seconds since the Unix epoch.

    Raises:
        UnreadableRunError: it can't be read, part of it is of a later version, or no registered metric is in it.
    """
    try:
        stitched = _Stitched(records_path)
        traceback = _console_end(folder)
    except OSError as error:
        raise UnreadableRunError(
            f"{records_path}: can't be read: {error.strerror or error}", remedy="check the path and its permissions"
        ) from error
    newer = next((line for line in stitched.unreadable if line.newer), None)
    if newer is not None:
        raise UnreadableRunError(
            f"{records_path}, line {newer.number}: {newer.error}", remedy="python -m pip install --upgrade orz-monitor"
        )
    run = stitched.run(path, folder, traceback, now)
    if not run.coverage.recognised and not run.events and run.traceback is None:
        raise UnreadableRunError(
            f"{records_path}: no metric recognised in {_described(stitched)}",
            remedy="give a run folder of orz-train or its metrics.jsonl; docs/reference/records.md has the format",
        )
    return run


class _Stitched:
    """The records of one file, the later attempt winning where a restart repeats steps."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: dict[int, tuple[StepRecord, int]] = {}
        self.events: list[EventRecord] = []
        self.restarts: list[int] = []
        self.unreadable: list[Line] = []
        self.num_records = 0
        self._resumed = False
        for line in read_records(path):
            self._add(line)

    def _add(self, line: Line) -> None:
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

    def run(self, path: Path, folder: Path | None, traceback: Traceback | None, now: float) -> Run:
        """Turn the records into series."""
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


def _console_end(folder: Path | None) -> Traceback | None:
    """Look for a traceback at the end of the console log, if there is one."""
    console = folder / CONSOLE_FILE if folder is not None else None
    return last_traceback(console) if console is not None and console.is_file() else None


def _described(stitched: _Stitched) -> str:
    """Say what a file without a metric holds instead."""
    if stitched.unreadable and not stitched.num_records:
        first = stitched.unreadable[0]
        return f"{len(stitched.unreadable)} lines (line {first.number}: {first.error})"
    if stitched.num_records:
        names = sorted({name for record, _ in stitched.records.values() for name in record.metrics})
        return f"{stitched.num_records} records" + (f" (logged: {', '.join(names[:5])}, ...)" if names else "")
    return "an empty file"
