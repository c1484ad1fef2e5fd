"""A records file read piece by piece, as it grows."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import numpy as np

from orz_monitor.records import EventRecord, Line, RecordError, StepRecord, describe
from orz_monitor.records import loads as record_of
from orz_monitor.run import Run, coverage_of
from orz_monitor.series import Series

_LONGEST_LINE_BYTES: Final = 8 << 20
_MOST_UNREADABLE: Final = 1000


class RecordsReader:
    """Takes the bytes of a `metrics.jsonl` in pieces of any size and says at any time what the run is.

    Where a restart repeats steps, the later attempt wins, as in `load_run`.

    Args:
        path: the records file.
        folder: its run folder, or None.
    """

    def __init__(self, path: Path, folder: Path | None) -> None:
        self._path = path
        self._folder = folder
        self._rest = b""
        self._number = 0
        self._num_records = 0
        self._records: dict[int, tuple[StepRecord, int]] = {}
        self._events: list[EventRecord] = []
        self._restarts: list[int] = []
        self._unreadable: list[Line] = []
        self._resumed = False

    def feed(self, data: bytes) -> None:
        """Take more of the file; a line counts once it has ended."""
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest[-_LONGEST_LINE_BYTES:]
        for line in lines:
            self._number += 1
            if line.strip():
                self._take(line)

    def snapshot(self) -> Run:
        """Return the run as far as it was read."""
        records = [record for record, _ in self._records.values()]
        names = {name for record in records for name in record.metrics}
        phases = {phase for record in records for phase in record.seconds}
        return Run(
            name=(self._folder or self._path).resolve().name,
            path=self._path,
            folder=self._folder,
            steps=np.array([record.step for record in records], dtype=np.int64),
            metrics={n: self._series(n, [(r.step, r.metrics.get(n)) for r in records]) for n in sorted(names)},
            seconds={n: self._series(n, [(r.step, r.seconds.get(n)) for r in records]) for n in sorted(phases)},
            times=self._series("time", [(r.step, r.time) for r in records]),
            events=tuple(self._events),
            restarts=tuple(self._restarts),
            lines={step: number for step, (_, number) in self._records.items()},
            coverage=coverage_of(names, num_records=self._num_records, unreadable=self._unreadable),
            traceback=None,
            now=time.time(),
            files=(self._path,),
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
            lines=np.array([self._records[step][1] for step, _ in known], dtype=np.int64),
            files=np.zeros(len(known), dtype=np.int64),
        )

    def _take(self, line: bytes) -> None:
        """Take one line."""
        try:
            record = record_of(line.decode("utf-8"))
        except (RecordError, UnicodeDecodeError) as error:
            if len(self._unreadable) < _MOST_UNREADABLE:
                self._unreadable.append(Line(number=self._number, error=str(error)))
            return
        self._num_records += 1
        if isinstance(record, EventRecord):
            self._events.append(record)
            if record.event == "resume":
                self._resumed = True
                if record.step is not None:
                    self._forget_from(record.step + 1)
            return
        repeated = bool(self._records) and record.step <= next(reversed(self._records))
        if repeated:
            self._forget_from(record.step)
        if repeated or self._resumed:
            self._restarts.append(record.step)
            self._resumed = False
        self._records[record.step] = (record, self._number)

    def _forget_from(self, step: int) -> None:
        """Forget the steps that a restart has undone."""
        for undone in [known for known in self._records if known >= step]:
            del self._records[undone]
