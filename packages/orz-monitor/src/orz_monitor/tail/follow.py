"""A file that grows, is rotated, truncated or recreated, read by polling: that works on every file system."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO, Final, Self

_CHUNK_BYTES: Final = 1 << 20
_FINGERPRINT_BYTES: Final = 256
"""Of its beginning; another file under the same name begins differently."""


class FollowedFile:
    """Reads what is appended to a path, whatever file lies there.

    A rotated file is read to its end before its successor is read from its beginning. Where a line was cut off by
    the change, it is ended, so that two lines never become one.

    Args:
        path: need not exist yet.
        last_bytes: where the first file is larger, begin that many bytes before its end.

    Attributes:
        start: where in the first file reading began, in bytes.
        exists: whether the path was there at the last poll.
        num_changes: how often the file was replaced, truncated or rewritten.
    """

    def __init__(self, path: Path, *, last_bytes: int | None = None) -> None:
        self.path = path
        self.start = 0
        self.exists = False
        self.num_changes = 0
        self._last_bytes = last_bytes
        self._file: BinaryIO | None = None
        self._place = 0
        self._began_with = b""
        self._mid_line = False

    def poll(self, most: int = _CHUNK_BYTES) -> bytes:
        """Return up to `most` bytes that are new; empty where there are none.

        Raises:
            OSError: the file is there and can't be opened or read.
        """
        if self._file is None and not self._open():
            return b""
        data = self._read(most)
        if data or not self._changed():
            return data
        return self._end_line() + self._read(most)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> bool:
        """Open what lies at the path; tell whether something does."""
        try:
            self._file = self.path.open("rb", buffering=0)
        except FileNotFoundError:
            self.exists = False
            return False
        self.exists = True
        self._place, self._began_with = 0, b""
        if self._last_bytes is not None:
            self.start = self._place = max(0, os.fstat(self._file.fileno()).st_size - self._last_bytes)
            self._last_bytes = None
        return True

    def _read(self, most: int) -> bytes:
        """Read on in the open file, from its beginning where it was truncated or rewritten in place."""
        if self._file is None:
            return b""
        size = os.fstat(self._file.fileno()).st_size
        ended = b""
        if size < self._place or (size > self._place and self._rewritten()):
            self.num_changes += 1
            self._place, self._began_with = 0, b""
            ended = self._end_line()
        self._file.seek(self._place)
        data = self._file.read(most)
        self._place += len(data)
        if data:
            self._mid_line = not data.endswith(b"\n")
        return ended + data

    def _rewritten(self) -> bool:
        """Tell whether the file begins differently than it did; learn its beginning as it grows."""
        if self._file is None:
            return False
        self._file.seek(0)
        beginning = self._file.read(_FINGERPRINT_BYTES)
        known = self._began_with
        if beginning[: len(known)] == known:
            # Only what was read is known: bytes after it may still change hands.
            self._began_with = beginning
            return False
        return True

    def _changed(self) -> bool:
        """Tell whether another file lies at the path by now, and open it."""
        if self._file is None:
            return False
        try:
            there = self.path.stat()
        except FileNotFoundError:
            self.exists = False  # gone, or between the two steps of a rotation: what is open may still grow
            return False
        here = os.fstat(self._file.fileno())
        self.exists = True
        if (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino):
            return False
        self.close()
        self.num_changes += 1
        return self._open()

    def _end_line(self) -> bytes:
        """Return what ends a line that was cut off."""
        ended = b"\n" if self._mid_line else b""
        self._mid_line = False
        return ended
