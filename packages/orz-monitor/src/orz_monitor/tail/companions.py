"""The other logs of a folder, those of other processes, while they grow."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from orz_monitor.dialects import Dialect
from orz_monitor.errors import UnreadableRunError
from orz_monitor.log_folder import log_files
from orz_monitor.rotation import MOST_PARTS, earlier_parts, logs_of
from orz_monitor.tail.beginning import Beginning
from orz_monitor.tail.followed_file import FollowedFile
from orz_monitor.tail.log_reader import LogReader

_LOOK_AGAIN_S: Final = 1.0
"""Logs that appear later are looked for this often."""
_TURN_S: Final = 0.01
"""For which earlier parts are read, however little time there is."""
_COMPRESSED: Final = {".gz", ".zst"}


class Companions:
    """Follows every log below a folder but the one that is followed already, new ones too.

    Earlier parts of a log are read before it. What it becomes when it is rotated is not read again; other compressed
    files, which do not grow, are left to `orz monitor report`.

    Args:
        folder: where the logs are.
        followed: the log that somebody else follows.
        dialects: the dialects to read with; None for all known ones.
    """

    def __init__(self, folder: Path, followed: Path, dialects: Sequence[type[Dialect]] | None = None) -> None:
        self._folder = folder
        self._dialects = dialects
        self._logs: dict[Path, _Log] = {}
        self._known = {followed}
        self._identities = {_identity(followed)}
        self._look_at = 0.0
        self.is_behind = False
        """Whether there was more to read at the last poll."""

    @property
    def readers(self) -> list[LogReader]:
        """What was read of each, by path."""
        return [self._logs[path].reader for path in sorted(self._logs)]

    def poll(self, until: float) -> bool:
        """Read what is new; tell whether there was anything.

        Args:
            until: when to stop, on the monotonic clock; every file gets its turn.

        Raises:
            OSError: a file is there and can't be read.
        """
        self._look_for_more()
        self.is_behind = False
        for path, log in self._logs.items():
            while log.read(until):
                self.is_behind = True
                self._identities.add(_identity(path))
                if time.monotonic() >= until:
                    break
        return self.is_behind

    def pause(self) -> bool:
        """Take the last line of each as it stands where nothing came behind it; tells whether there is more to see."""
        return any(log.reader.pause() for log in self._logs.values())

    def close(self) -> None:
        """Close the files."""
        for log in self._logs.values():
            log.close()

    def _look_for_more(self) -> None:
        """Begin with logs that were not there before."""
        if time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + _LOOK_AGAIN_S
        try:
            found = log_files(self._folder)
        except UnreadableRunError:  # all of them are gone for the while
            return
        logs = self._known | set(found)
        for path, log in zip(found, logs_of(found), strict=True):
            is_part = log != path and log in logs
            if path in self._known or is_part or path.suffix in _COMPRESSED:
                continue
            self._known.add(path)
            if _identity(path) not in self._identities:
                self._logs[path] = _Log(path, self._folder, self._dialects)


class _Log:
    """A log that is followed from its first part on."""

    def __init__(self, path: Path, folder: Path, dialects: Sequence[type[Dialect]] | None) -> None:
        self.reader = LogReader(path, folder, dialects)
        self._path = path
        self._file = FollowedFile(path)
        self._num_changes = 0
        parts = earlier_parts(path)[-MOST_PARTS:]
        self._beginning = Beginning(path, parts, 0) if parts else None

    def read(self, until: float) -> bool:
        """Read what comes next; tell whether there was anything."""
        if self._beginning is not None:
            if self._beginning.read(self.reader, max(until, time.monotonic() + _TURN_S)):
                return True
            self._beginning.close()
            self._beginning = None
        data = self._file.poll()
        if data and self._file.num_changes != self._num_changes:
            self._num_changes = self._file.num_changes
            self.reader.next_file(self._path)
        if data:
            self.reader.feed(data)
        return bool(data)

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        if self._beginning is not None:
            self._beginning.close()


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what a file stays the same by when it is renamed; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
