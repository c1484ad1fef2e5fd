"""The other logs of a folder, those of other processes, while they grow."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from orz_monitor.dialects import Dialect
from orz_monitor.errors import UnreadableRunError
from orz_monitor.log_folder import log_files
from orz_monitor.tail.followed_file import FollowedFile
from orz_monitor.tail.log_reader import LogReader

_LOOK_AGAIN_S: Final = 1.0
"""Logs that appear later are looked for this often."""
_COMPRESSED: Final = {".gz", ".zst"}


class Companions:
    """Follows every log below a folder but the one that is followed already, new ones too.

    A rotated file that was followed under its old name is not read again; compressed ones, which do not grow, are
    left to `orz monitor report`.

    Args:
        folder: where the logs are.
        followed: the log that somebody else follows.
        dialects: the dialects to read with; None for all known ones.
    """

    def __init__(self, folder: Path, followed: Path, dialects: Sequence[type[Dialect]] | None = None) -> None:
        self._folder = folder
        self._dialects = dialects
        self._files: dict[Path, FollowedFile] = {}
        self._readers: dict[Path, LogReader] = {}
        self._known = {followed}
        self._identities = {_identity(followed)}
        self._look_at = 0.0
        self.is_behind = False
        """Whether there was more to read at the last poll."""

    @property
    def readers(self) -> list[LogReader]:
        """What was read of each, by path."""
        return [self._readers[path] for path in sorted(self._readers)]

    def poll(self, until: float) -> bool:
        """Read what is new; tell whether there was anything.

        Args:
            until: when to stop, on the monotonic clock; every file gets its turn.

        Raises:
            OSError: a file is there and can't be read.
        """
        self._look_for_more()
        self.is_behind = False
        for path, file in self._files.items():
            while data := file.poll():
                self.is_behind = True
                self._identities.add(_identity(path))
                self._readers[path].feed(data)
                if time.monotonic() >= until:
                    break
        return self.is_behind

    def pause(self) -> bool:
        """Take the last line of each as it stands where nothing came behind it; tells whether there is more to see."""
        return any(reader.pause() for reader in self._readers.values())

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()

    def _look_for_more(self) -> None:
        """Begin with logs that were not there before."""
        if time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + _LOOK_AGAIN_S
        try:
            found = log_files(self._folder)
        except UnreadableRunError:  # all of them are gone for the while
            return
        for path in found:
            if path in self._known or path.suffix in _COMPRESSED:
                continue
            self._known.add(path)
            if _identity(path) not in self._identities:
                self._files[path] = FollowedFile(path)
                self._readers[path] = LogReader(path, self._folder, self._dialects)


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what a file stays the same by when it is renamed; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
