"""What `tail` and `serve` follow: a log that may not be there yet, may be large, and grows."""

from __future__ import annotations

import threading
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, Self

from orz_monitor.errors import unreadable
from orz_monitor.run_files import CONSOLE_FILE, RECORDS_FILE, run_folder_of
from orz_monitor.tail.followed_file import FollowedFile
from orz_monitor.tail.lines import LastLines
from orz_monitor.tail.places import NewRuns, newest_run
from orz_monitor.tail.readers import Reader, make_reader
from orz_monitor.tail.refusals import Stores, refuse_compressed, refuse_what_never_comes
from orz_monitor.units import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orz_monitor.dialects import Dialect
    from orz_monitor.run import Run
    from orz_monitor.tail.companions import Companions
    from orz_monitor.tail.console_reader import ConsoleReader

FIRST_BYTES: Final = 8 << 20
"""Of a large file the last ones are read first."""
_CHUNK_BYTES: Final = 1 << 18
_MOST_UNREAD: Final = 128
"""Pieces that wait for the reader, 32 MB; more is left in the file."""
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
        self._values: FollowedFile | None = None
        self._console: FollowedFile | None = None
        self._reader: Reader | None = None
        self._whole: Reader | None = None
        self._others: Companions | None = None
        self._words: ConsoleReader | None = None
        self._beginning: BinaryIO | None = None
        self._beginning_read = 0
        self._unread: deque[bytes] = deque()
        self._arrived: deque[bytes] = deque()
        self._stores = Stores(path)
        self._new_runs: NewRuns | None = None
        self._reading = threading.Lock()
        self.run: Run | None = None
        """The run as it was last reckoned; None where nothing was."""
        self.is_stale = False
        """Whether more was read since."""
        self.num_bytes = 0
        self._began = time.monotonic()

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
            return "" if self.num_bytes else f"the first line of {self.path}"
        return f"a file that {'was there and is gone' if self.num_bytes else 'is not there yet'}: {self.path}"

    @property
    def title(self) -> str:
        """How the run is called on a screen: the name of its folder, or of its file."""
        return (self.folder or self.path).resolve().name

    @property
    def notice(self) -> str:
        """What is being waited for or read, with how long or how far; empty where nothing is missing."""
        if self.waiting_for:
            return f"waiting {time.monotonic() - self._began:.0f} s for {self.waiting_for}"
        if self._whole is not None:
            return f"the last steps; reading the file from its beginning: {100 * self.share_read:.0f} %"
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
        others = self._others.readers if self._others is not None else ()
        return self._reader.num_lines + sum(reader.num_lines for reader in others)

    @property
    def num_alike(self) -> int:
        """How many lines look like metrics, of those read in vain; three tell a trainer's log."""
        if not self.num_lines_in_vain or self._reader is None:
            return 0
        others = self._others.readers if self._others is not None else ()
        return max([self._reader.num_alike, *(reader.num_alike for reader in others)])

    @property
    def share_read(self) -> float:
        """How much of a large file's beginning was read by now, 0 to 1; 1 where nothing is left to read."""
        if self._whole is None or self._values is None:
            return 1.0
        return min(self._beginning_read / max(1, self._values.start), 1.0)

    @property
    def num_bytes_seen(self) -> int:
        """Bytes that were read by now, of values and of the console log: a picture of fewer is old."""
        return self.num_bytes + self.lines.num_bytes

    @property
    def has_caught_up(self) -> bool:
        """Whether all that was written is in `run`."""
        behind = any(beside is not None and beside.is_behind for beside in (self._others, self._words))
        return self._is_read and not behind

    @property
    def _is_read(self) -> bool:
        """Whether all that was written of the values was handed to the reader."""
        return self._whole is None and not self._unread

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
                others = self._others.readers if self._others is not None else ()
                words = self._words.words if self._words is not None and self._is_read else None
                self.run, self.is_stale = self._reader.snapshot(others, words), False
            return self.run

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        for file in (self._values, self._console, self._beginning, self._others, self._words):
            if file is not None:
                file.close()

    def _poll(self, budget_s: float) -> bool:
        """Read what is new, then a piece of what is old, unless the run is being reckoned."""
        if self._values is None:
            self._values = self._locate()
        if self._values is None:
            return False
        new = self._poll_values(self._values)
        if self._console is not None:
            new |= self._poll_console(self._console)
        if not self._reading.acquire(blocking=False):
            return new
        try:
            until = time.monotonic() + budget_s
            new |= self._read_new(self._values.start, until) or self._read_beginning(until)
            new |= self._read_beside(until)
            self.is_stale |= any(beside.pause() for beside in (self._reader, self._others) if beside is not None)
            return new
        finally:
            self._reading.release()

    def _locate(self) -> FollowedFile | None:
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
            refuse_compressed(path)
            self.path = path
        if self.folder is not None:
            self._console = FollowedFile(self.folder / CONSOLE_FILE, last_bytes=FIRST_BYTES)
        return FollowedFile(self.path, last_bytes=FIRST_BYTES)

    def _poll_values(self, values: FollowedFile) -> bool:
        """Read what is new of the values, so much at a time that the reader can keep up."""
        new = False
        while len(self._unread) < _MOST_UNREAD and (data := values.poll()):
            new = True
            self.num_bytes += len(data)
            self._unread += (data[at : at + _CHUNK_BYTES] for at in range(0, len(data), _CHUNK_BYTES))
            if self._console is None and self.path.name != RECORDS_FILE:
                self.lines.feed(data)
        return new

    def _read_new(self, start: int, until: float) -> bool:
        """Hand new bytes to the reader; tell whether there were any.

        Args:
            start: where in the file the first of them are, in bytes.
            until: when to stop, on the monotonic clock.
        """
        new = bool(self._unread)
        while self._unread and time.monotonic() < until:
            data = self._unread.popleft()
            if self._reader is None:
                self._reader = make_reader(self.path, self.folder, self._dialects)
                if start:
                    self._whole = make_reader(self.path, self.folder, self._dialects)
                    self._beginning = self.path.open("rb")
                    self._arrived.append(data)
                    data = data.partition(b"\n")[2]  # it begins in the middle of a line, which says nothing by itself
            elif self._whole is not None:
                self._arrived.append(data)
            self._reader.feed(data)
            self.is_stale = True
        return new

    def _read_beside(self, until: float) -> bool:
        """Read what is new of the console log beside records, or of the other logs of the folder that was named."""
        if self._reader is None:
            return False
        if self.folder is not None:
            if self._words is None:
                from orz_monitor.tail.console_reader import ConsoleReader  # noqa: PLC0415 - numpy, after the first picture

                self._words = ConsoleReader(self.folder / CONSOLE_FILE)
            new = self._words.poll(until)
            self.is_stale |= new
            return new or self._words.is_behind
        if not self.given.is_dir():
            return False
        if self._others is None:
            from orz_monitor.tail.companions import Companions  # noqa: PLC0415 - numpy, after the first picture

            self._others = Companions(self.given, self.path, self._dialects)
        new = self._others.poll(until)
        self.is_stale |= new
        return new

    def _poll_console(self, console: FollowedFile) -> bool:
        """Read what is new of the console log."""
        new = False
        while data := console.poll():
            new = True
            self.lines.feed(data)
        return new

    def _read_beginning(self, until: float) -> bool:
        """Read on in what lies before the end that was read first; then take its reader for the whole."""
        if self._whole is None or self._beginning is None or self._values is None:
            return False
        while time.monotonic() < until:
            left = self._values.start - self._beginning_read
            data = self._beginning.read(min(left, _CHUNK_BYTES)) if left > 0 else b""
            if data:
                self._beginning_read += len(data)
                self._whole.feed(data)
            elif self._arrived:
                self._whole.feed(self._arrived.popleft())
            else:
                self._reader, self._whole = self._whole, None
                self._beginning.close()
                self.is_stale = True
                return True
        return True


def is_over(run: Run | None) -> bool:
    """Tell whether a run has said its last word; one that died without a word counts as going on."""
    return run is not None and str(run.state) in _OVER
