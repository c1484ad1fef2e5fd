"""The console log of a run folder read as it grows, for what the records lack."""

from __future__ import annotations

import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Final

from orz_monitor.console import Traceback, last_traceback
from orz_monitor.console_events import ConsoleEvents, ConsoleWords
from orz_monitor.tail.followed_file import FollowedFile

_LATE_S: Final = 60.0
"""The records may be seen later than the console that was written after them, on a network's disk by so much."""
_QUIET_S: Final = 600.0
"""A run whose log grows no more for so long after a traceback has not survived it. Before that nobody can tell: it may
go on after an exception that it prints, and whoever takes it for dead leaves it alone."""


class ConsoleReader:
    """Follows the console log of a run, and says what `load_run` would, once the records had time to say it first.

    Args:
        path: the log; it need not be there.

    Attributes:
        is_behind: whether there was more to read at the last poll.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = FollowedFile(path)
        self._num_changes = 0
        self._events = ConsoleEvents(path)
        self._grew_at: float | None = None
        self._is_new = False
        self._waiting: deque[tuple[float, int]] = deque()
        self._num_believed = 0
        self._traceback: Traceback | None = None
        self._was_traceback_sought = False
        self.is_behind = False

    @property
    def words(self) -> ConsoleWords:
        """What the log says, as far as it is to be believed yet."""
        return ConsoleWords(path=self._path, said=self._events.said[: self._num_believed], traceback=self._traceback)

    def poll(self, until: float) -> bool:
        """Read what is new; tell whether `words` are others than before.

        Args:
            until: when to stop, on the monotonic clock.

        Raises:
            OSError: the log is there and can't be read.
        """
        before = (self._events, self._num_believed, self._traceback)
        if self._read(until):
            self._traceback, self._was_traceback_sought = None, False
        now = time.monotonic()
        while self._waiting and now - self._waiting[0][0] >= _LATE_S:
            self._num_believed = self._waiting.popleft()[1]
        is_quiet = self._grew_at is not None and not self.is_behind and now - self._grew_at >= _QUIET_S
        if is_quiet and not self._was_traceback_sought:
            self._was_traceback_sought = True
            with suppress(FileNotFoundError):  # it is gone
                self._traceback = last_traceback(self._path)
        return before != (self._events, self._num_believed, self._traceback)

    def close(self) -> None:
        """Close the log."""
        self._file.close()

    def _read(self, until: float) -> bool:
        """Read what is new; tell whether there was anything."""
        grew = self.is_behind = False
        while data := self._file.poll():
            grew = True
            if self._file.num_changes != self._num_changes:  # another file: its lines are numbered from 1
                self._num_changes = self._file.num_changes
                self._events, self._num_believed = ConsoleEvents(self._path), 0
                self._waiting.clear()
            self._events.feed(data)
            if time.monotonic() >= until:
                self.is_behind = True
                break
        if grew:
            self._grew_at = time.monotonic() - (0.0 if self._is_new else self._age_s())
            self._waiting.append((self._grew_at, len(self._events.said)))
        self._is_new = self._is_new or (self._file.exists and not self.is_behind)
        return grew

    def _age_s(self) -> float:
        """Return how long ago the log was written last, by its own time: what was there before was not seen to grow."""
        with suppress(FileNotFoundError):
            return max(0.0, time.time() - self._path.stat().st_mtime)
        return 0.0
