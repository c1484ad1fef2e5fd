"""What `tail` and `serve` follow: a log that may not be there yet, may be large, and grows."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from orz_monitor.addresses import real
from orz_monitor.errors import unreadable
from orz_monitor.rotation import listed
from orz_monitor.run_files import CONSOLE_FILE, RECORDS_FILE, run_folder_of
from orz_monitor.tail.beside import Beside
from orz_monitor.tail.followed_file import FollowedFile
from orz_monitor.tail.lines import LastLines
from orz_monitor.tail.places import NewRuns, newest_run
from orz_monitor.tail.refusals import Stores, refuse_compressed, refuse_pipe, refuse_what_never_comes
from orz_monitor.tail.values import FIRST_BYTES, Values
from orz_monitor.units import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orz_monitor.dialects import Dialect
    from orz_monitor.run import Run
    from orz_monitor.tail.log_reader import LogReader
    from orz_monitor.tail.readers import Reader

_OVER: Final = ("finished", "failed", "interrupted")


class Source:
    """Follows a run: its values from one file, its last lines from the same or from the console log beside it.

    Of a large file the end is read first, so that there is something to see at once; its beginning follows in
    small pieces, and then the whole is what `run` is.

    Args:
        path: a log, a records file, a run folder, a folder with run folders in it (the newest is followed), or a
            folder of logs of one run, such as one for each process (all are followed, new ones too).
        dialects: the dialects to read logs with; None for all known ones.
    """

    def __init__(self, path: Path, dialects: Sequence[type[Dialect]] | None = None) -> None:
        self.given = path
        self._dialects = dialects
        self.path = path
        self.folder: Path | None = None
        self.lines = LastLines()
        self._values: Values | None = None
        self._console: FollowedFile | None = None
        self._beside: Beside | None = None
        self._stores = Stores(path)
        self._new_runs: NewRuns | None = None
        self._reading = threading.Lock()
        self.run: Run | None = None
        """The run as it was last reckoned; None where nothing was."""
        self.is_stale = False
        """Whether more was read since."""
        self._began = time.monotonic()

    @property
    def num_bytes(self) -> int:
        """Bytes of the file with the values that were read by now."""
        return self._values.num_bytes if self._values is not None else 0

    @property
    def _reader(self) -> Reader | None:
        """What has read most of the values so far."""
        return self._values.reader if self._values is not None else None

    @property
    def _others(self) -> Sequence[LogReader]:
        """What was read of other logs of the folder."""
        return self._beside.logs if self._beside is not None else ()

    @property
    def waiting_for(self) -> str:
        """What is not there yet, in words; empty where there is something to read."""
        if self._values is None:
            if self.given.is_dir():
                return f"a run: no {RECORDS_FILE} and no log yet in {self.given}"
            if self.given.parent.is_dir():
                return f"a file or folder that is not there yet: {self.given}"
            return f"a folder that is not there yet: {self.given.parent}, and {self.given.name} in it"
        if self._values.exists:
            return "" if self._reader is not None or self.num_bytes else f"the first line of {self.path}"
        return f"a file that {'was there and is gone' if self.num_bytes else 'is not there yet'}: {self.path}"

    @property
    def title(self) -> str:
        """How the run is called on a screen: the name of its folder, or of its file."""
        return real(self.folder or self.path).name

    @property
    def notice(self) -> str:
        """What is being waited for or read, with how long or how far; empty where nothing is missing."""
        if self.waiting_for:
            return f"waiting {time.monotonic() - self._began:.0f} s for {self.waiting_for}"
        if self._values is not None and not self._values.is_whole:
            what = f"{listed(self._values.parts)} first" if self._values.parts else "the file from its beginning"
            return f"the last steps; reading {what}: {100 * self.share_read:.0f} %"
        if self.num_lines_in_vain:
            return f"waiting {time.monotonic() - self._began:.0f} s: {self.waiting_for_metrics}"
        return f"a newer run has begun: {self.newer_run}" if self.newer_run is not None else ""

    @property
    def newer_run(self) -> Path | None:
        """The run that began last beside the one that is followed, in the folder that was given; None for none."""
        return self._new_runs.newest() if self._new_runs is not None else None

    @property
    def waiting_for_metrics(self) -> str:
        """That no line had a metric so far, or too few to be sure, in words."""
        num, alike = self.num_lines_in_vain, self.num_alike
        if alike:
            looks = counted(alike, "line looks", "lines look")
            more = "one more step" if alike > 1 else "two more steps"
            return f"{looks} like metrics in {self.title}; {more} like that would tell"
        return f"no metric in {counted(num, 'line')} of {self.title} yet{self._stores.hint}"

    @property
    def num_lines_in_vain(self) -> int:
        """How many lines were read so far, all of them without a metric; 0 where one had any."""
        run = self.run
        if self._reader is None or run is None or run.metrics or run.seconds or is_over(run):
            return 0
        return self._reader.num_lines + sum(reader.num_lines for reader in self._others)

    @property
    def num_alike(self) -> int:
        """How many lines look like metrics, of those read in vain; three tell a trainer's log."""
        if not self.num_lines_in_vain or self._reader is None:
            return 0
        return max([self._reader.num_alike, *(reader.num_alike for reader in self._others)])

    @property
    def share_read(self) -> float:
        """How much of what stands before a log's end was read by now, 0 to 1; 1 where nothing is left to read."""
        return self._values.share_read if self._values is not None else 1.0

    @property
    def num_bytes_seen(self) -> int:
        """Bytes that were read by now, of values and of the console log: a picture of fewer is old."""
        return self.num_bytes + self.lines.num_bytes

    @property
    def has_caught_up(self) -> bool:
        """Whether all that was written is in `run`."""
        is_behind = self._beside is not None and self._beside.is_behind
        return (self._values is None or self._values.is_read) and not is_behind

    @property
    def num_changes(self) -> int:
        """How often the file was rotated, truncated or rewritten."""
        return self._values.num_changes if self._values is not None else 0

    def poll(self, budget_s: float = 0.05) -> bool:
        """Read what is new, then a piece of what is old; tell whether there was anything.

        Args:
            budget_s: how long old parts of the file may be read for, seconds.

        Raises:
            UnreadableRunError: what lies there can't be read, or is not followed.
        """
        if self.num_lines_in_vain:
            self._stores.look_beside(self.path)
        try:
            return self._poll(budget_s)
        except OSError as error:
            raise unreadable(self.path, error) from error

    def refresh(self) -> Run | None:
        """Reckon the run anew from what was read, and return it; from any thread.

        Meanwhile `poll` goes on reading, and what it reads waits.
        """
        with self._reading:
            if self.is_stale and self._reader is not None:
                is_read = self._values is not None and self._values.is_read
                words = self._beside.words if self._beside is not None and is_read else None
                self.run, self.is_stale = self._reader.snapshot(self._others, words), False
            return self.run

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        for file in (self._values, self._console, self._beside):
            if file is not None:
                file.close()

    def _poll(self, budget_s: float) -> bool:
        """Read what is new, then a piece of what is old, unless the run is being reckoned."""
        if self._values is None:
            self._values = self._locate()
        if self._values is None:
            return False
        new = self._values.poll()
        if self._console is not None:
            new |= self._poll_console(self._console)
        if not self._reading.acquire(blocking=False):
            return new
        try:
            until = time.monotonic() + budget_s
            was_new, says_more = self._values.read(until)
            self.is_stale |= says_more
            if self._reader is not None:
                if self._beside is None:
                    logs = self.given if self.given.is_dir() else None
                    self._beside = Beside(self.path, self.folder, logs, dialects=self._dialects)
                was_beside, says_more = self._beside.poll(until)
                self.is_stale |= says_more
                self.is_stale |= self._reader.pause() or self._beside.pause()
                was_new |= was_beside
            return new or was_new
        finally:
            self._reading.release()

    def _locate(self) -> Values | None:
        """Find what to follow; None where there is nothing yet.

        Raises:
            UnreadableRunError: a URL or standard input, which nobody can wait for, a store, or a compressed file.
        """
        path = newest_run(self.given) if self.given.is_dir() else self.given
        if path is None:
            self._stores.look_in_folder()
            return None
        if not path.exists():
            refuse_what_never_comes(path)
            return None
        if path.is_dir():
            self.folder, self.path = path, path / RECORDS_FILE
            self._new_runs = NewRuns(self.given) if path != self.given else None
        elif (folder := run_folder_of(path)) is not None:
            self.folder, self.path = folder, folder / RECORDS_FILE
        else:
            refuse_pipe(path)
            refuse_compressed(path)
            self.path = path
        if self.folder is not None:
            self._console = FollowedFile(self.folder / CONSOLE_FILE, last_bytes=FIRST_BYTES)
        return Values(self.path, self.folder, self._hear, dialects=self._dialects)

    def _hear(self, data: bytes) -> None:
        """Take bytes of the values for the last lines, unless records are no lines for people."""
        if self._console is None and self.path.name != RECORDS_FILE:
            self.lines.feed(data)

    def _poll_console(self, console: FollowedFile) -> bool:
        """Read what is new of the console log."""
        new = False
        while data := console.poll():
            new = True
            self.lines.feed(data)
        return new


def is_over(run: Run | None) -> bool:
    """Tell whether a run has said its last word; one that died without a word counts as going on."""
    return run is not None and str(run.state) in _OVER
