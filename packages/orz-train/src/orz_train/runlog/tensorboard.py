"""TensorBoard files: the numbers of `metrics.jsonl` once more, for those who like them there."""

from __future__ import annotations

import itertools
import math
import os
import platform
import time
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, Final

from orz_monitor.records import StepRecord
from orz_train.errors import BackendMissingError
from orz_train.runlog.errors import LogWriteError

_FORMAT: Final = "brain.Event:2"
_FILES: Final = itertools.count()


class TensorBoardLog:
    """Scalars by metric name, phases as `seconds/<phase>`, and the throughput that follows from both.

    TensorBoard's own writer has a thread, whose traceback a full disk would print beside our error: events are
    written here, in the thread that steps. The import takes its time, so it happens when the first scalar does.

    Args:
        folder: of the event files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._events: _EventFile | None = None
        self._purge_step: int | None = None

    def begin_after(self, step: int) -> None:
        """Make TensorBoard forget what an earlier attempt wrote beyond `step`; call it before the first scalar."""
        self._purge_step = step + 1

    def write(self, record: StepRecord) -> None:
        """Add the scalars of one step.

        Raises:
            LogWriteError: the files can't be written.
        """
        scalars = dict(record.metrics) | {f"seconds/{phase}": s for phase, s in record.seconds.items()}
        rate = tokens_per_second(record)
        if rate is not None:
            scalars["tokens/per_second"] = rate
        self.scalars(scalars, step=record.step, time=record.time)

    def scalars(self, values: dict[str, float], *, step: int, time: float) -> None:
        """Add scalars at a step.

        Raises:
            LogWriteError: the files can't be written.
        """
        try:
            events = self._opened()
            for name, value in values.items():
                summary = {"value": [{"tag": name, "simple_value": float(value)}]}
                events.add(step=step, wall_time=time, summary=summary)
            events.flush()
        except OSError as error:
            raise LogWriteError.of(self._folder, error) from error

    def close(self) -> None:
        """Write out what is left.

        Raises:
            LogWriteError: the files can't be written.
        """
        if self._events is None:
            return
        try:
            self._events.close()
        except OSError as error:
            raise LogWriteError.of(self._folder, error) from error

    def _opened(self) -> _EventFile:
        if self._events is None:
            try:
                self._events = _EventFile(self._folder, purge_step=self._purge_step)
            except ImportError as error:
                raise BackendMissingError(
                    f"logging.tensorboard is true, but TensorBoard can't be imported: {error}",
                    remedy="python -m pip install tensorboard, or set logging.tensorboard=false",
                ) from error
        return self._events


class _EventFile:
    """One file of records of TensorBoard, each a length, an `Event`, and the checksums of both.

    Args:
        folder: where it is made, under a name that sorts behind those of older files.
        purge_step: from which step on readers forget what older files say.

    Raises:
        ImportError: TensorBoard can't be imported.
        OSError: the file can't be made.
    """

    def __init__(self, folder: Path, *, purge_step: int | None) -> None:
        # By name: it has no types, and is imported only where it is wanted.
        event_pb2: Any = import_module("tensorboard.compat.proto.event_pb2")
        record_writer: Any = import_module("tensorboard.summary.writer.record_writer")
        self._event = event_pb2.Event
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{int(time.time()):010}.{platform.node()}.{os.getpid()}.{next(_FILES)}"
        self._file: BinaryIO = (folder / name).open("ab")
        self._records = record_writer.RecordWriter(self._file)
        self.add(wall_time=time.time(), file_version=_FORMAT)
        if purge_step is not None:
            self.add(step=purge_step, session_log={"status": event_pb2.SessionLog.START})

    def add(self, **fields: object) -> None:
        """Add an `Event` with these fields."""
        self._records.write(self._event(**fields).SerializeToString())

    def flush(self) -> None:
        """Give the records to the system."""
        self._file.flush()

    def close(self) -> None:
        """Give what is left to the system and let the file go."""
        self._file.close()


def tokens_per_second(record: StepRecord) -> float | None:
    """Divide the step's trained tokens by its seconds; None where one of them is missing."""
    tokens, seconds = record.metrics.get("tokens/trained"), record.seconds.get("total")
    if tokens is None or not seconds or not math.isfinite(seconds):
        return None
    return tokens / seconds
