"""A followed file as streams of bytes, one for each file that has had its path, in which lines stay whole."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Final, Self

from orz_monitor.transport.follower import Change, Follower

_OTHER_FILE: Final = {Change.REPLACED, Change.TRUNCATED, Change.REWRITTEN}


class FollowedFile:
    """Reads what is appended to a path, whatever file lies there.

    What one poll returns is of one file. Where a line was cut off by a rotation, it is ended, so that two lines never
    become one.

    Args:
        path: need not exist yet.
        last_bytes: where the first file is larger, begin that many bytes before its end.

    Attributes:
        start: where in the first file reading began, in bytes.
        exists: whether the path was there at the last poll.
        num_changes: how often the file was replaced, truncated or rewritten before what was returned last.
    """

    def __init__(self, path: Path, *, last_bytes: int | None = None) -> None:
        self.path = path
        self.start = 0
        self.exists = False
        self.num_changes = 0
        self._last_bytes = last_bytes
        self._follower = Follower(path)
        self._mid_line = False
        self._next: deque[bytes] = deque()

    def poll(self) -> bytes:
        """Return what is new, up to 8 MiB, or all that an earlier file still held; empty where nothing is.

        Raises:
            OSError: the file is there and can't be opened or read.
        """
        if self._next:
            return self._begun(self._next.popleft())
        if self._last_bytes is not None and self.path.exists():
            self.start = self._follower.offset = max(0, self.path.stat().st_size - self._last_bytes)
            self._last_bytes = None
        news = self._follower.poll()
        if news.change is not Change.NONE:
            self.exists = news.change is not Change.VANISHED
        old, new = news.chunks[: len(news.chunks) - news.fresh], news.chunks[len(news.chunks) - news.fresh :]
        data = self._taken(b"".join(old))
        if news.change not in _OTHER_FILE:
            return data + self._taken(b"".join(new))
        data += b"\n" if self._mid_line else b""
        self._next.extend(file if file.endswith(b"\n") else file + b"\n" for file in news.between)
        self._next.append(b"".join(new))
        return data or self._begun(self._next.popleft())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._follower.close()

    def _begun(self, data: bytes) -> bytes:
        """Begin with another file, of which these are the first bytes."""
        self.num_changes += 1
        return self._taken(data)

    def _taken(self, data: bytes) -> bytes:
        """Note whether bytes end within a line."""
        if data:
            self._mid_line = not data.endswith(b"\n")
        return data
