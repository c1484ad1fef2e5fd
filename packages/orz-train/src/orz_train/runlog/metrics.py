"""`metrics.jsonl`: the record of a run that machines read."""

from __future__ import annotations

import os
from pathlib import Path

from orz_monitor.records import Record, dumps
from orz_train.runlog.errors import LogWriteError


class MetricsFile:
    """An append-only file of records (`orz_monitor.records`), each on the disk before `write` returns.

    Lines are never changed: after a restart, readers take the last record of a step. A line that a killed
    process left torn is ended first, so it costs no other.

    Args:
        path: the file; created if missing.

    Raises:
        LogWriteError: the file can't be opened for writing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = path.open("a+b", buffering=0)
            self._torn = _ends_torn(self._file.fileno())
        except OSError as error:
            raise LogWriteError.of(path, error) from error

    def write(self, record: Record) -> None:
        """Append one record.

        Raises:
            LogWriteError: the disk is full or gone. Older records are intact.
            RecordError: the record holds what the contract does not allow.
        """
        line = dumps(record).encode("ascii") + b"\n"
        remaining = memoryview(b"\n" + line if self._torn else line)
        self._torn = True
        try:
            while remaining:
                remaining = remaining[self._file.write(remaining) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            raise LogWriteError.of(self._path, error) from error
        self._torn = False

    def close(self) -> None:
        """Close the file; every record is already on the disk."""
        self._file.close()


def _ends_torn(descriptor: int) -> bool:
    size = os.fstat(descriptor).st_size
    return size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
