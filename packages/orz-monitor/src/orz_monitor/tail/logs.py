"""A console log of any trainer read piece by piece, as it grows."""

from __future__ import annotations

import copy
import time
from array import array
from pathlib import Path

from orz_monitor.dialects import GENERIC, ORZ_TRAIN, find_dialect, known_dialects
from orz_monitor.log import Entry, Log, Row
from orz_monitor.reading import Reader
from orz_monitor.run import Run
from orz_monitor.stitch import stitch


class LogReader:
    """Takes the bytes of a log in pieces of any size and says at any time what the run is.

    As in `read_log`, the fallback dialect counts only while no other has found a number.

    Args:
        path: the log.
        folder: the folder that was named, or None.
    """

    def __init__(self, path: Path, folder: Path | None) -> None:
        self._path = path
        self._folder = folder
        self._kinds = known_dialects()
        self._reader = Reader(dialects=self._kinds, path=path)
        self._fallback: Reader | None = Reader(dialects=[find_dialect(GENERIC), *self._kinds], path=path)

    def feed(self, data: bytes) -> None:
        """Take more of the log."""
        self._reader.feed(data)
        if self._reader.log.votes:
            self._fallback = None
        elif self._fallback is not None:
            self._fallback.feed(data)

    def snapshot(self) -> Run:
        """Return the run as far as it was read."""
        log = (self._fallback or self._reader).log
        return stitch(
            _copy_of(log),
            name=(self._folder or self._path).resolve().name,
            path=self._path,
            folder=self._folder,
            now=time.time(),
            dialects=[*([find_dialect(GENERIC)] if self._fallback else []), *self._kinds, find_dialect(ORZ_TRAIN)],
        )


def _copy_of(log: Log) -> Log:
    """Copy a log as far as stitching changes it: it numbers rows and converts values in place."""
    copied = copy.copy(log)
    copied.entries = [_entry_copy(entry) for entry in log.entries]
    copied.votes = log.votes.copy()
    return copied


def _entry_copy(entry: Entry) -> Entry:
    """Copy an entry, with values of its own."""
    copied = copy.copy(entry)
    if isinstance(copied, Row):
        copied.values = array("d", copied.values)
    return copied
