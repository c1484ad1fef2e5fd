"""A records file read piece by piece, as it grows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from orz_monitor.records import read_line
from orz_monitor.records_run import run_of_records
from orz_monitor.run import Run
from orz_monitor.stitched_records import StitchedRecords

if TYPE_CHECKING:
    from orz_monitor.console_events import ConsoleWords
    from orz_monitor.tail.log_reader import LogReader

_LONGEST_LINE_BYTES: Final = 8 << 20


class RecordsReader:
    """Takes the bytes of a `metrics.jsonl` in pieces of any size and says at any time what the run is.

    Lines, restarts and the end of the console log are read as `load_run` reads them.

    Args:
        path: the records file.
        folder: its run folder, or None.
    """

    has_parts: ClassVar[bool] = False

    def __init__(self, path: Path, folder: Path | None) -> None:
        self._path = path
        self._folder = folder
        self._stitched = StitchedRecords(path)
        self._rest = b""
        self._number = 0

    @property
    def num_lines(self) -> int:
        """How many lines were read, one that has not ended yet with them."""
        return self._number + bool(self._rest)

    @property
    def num_alike(self) -> int:
        """How many lines may be metrics: of records each is one or is not."""
        return 0

    def feed(self, data: bytes) -> None:
        """Take more of the file; a line counts once it has ended."""
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest[-_LONGEST_LINE_BYTES:]
        for line in lines:
            self._number += 1
            if line.strip():
                for read in read_line(line + b"\n", self._number):
                    self._stitched.add(read)

    def next_file(self, path: Path) -> None:
        """Do nothing: records are numbered on."""

    def note(self, problem: str) -> None:
        """Do nothing: records have no parts."""

    def pause(self) -> bool:
        """Do nothing: a record that has ended is whole."""
        return False

    def snapshot(
        self,
        others: Sequence[LogReader] = (),  # noqa: ARG002 - only a log has others beside it
        words: ConsoleWords | None = None,
    ) -> Run:
        """Return the run as far as it was read, with what its console log says; other logs say no more than that."""
        return run_of_records(self._stitched, self._folder or self._path, self._folder, words, now=time.time())
