"""Follow a growing file: rotation, truncation, deletion, and file systems that tell nobody of changes.

Nothing is waited for here: `poll` looks at the file and returns what is new. Whoever polls chooses how often.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from orz_monitor.rotation import earlier_parts

_FINGERPRINT_BYTES: Final = 256
_MOST_BYTES: Final = 8 << 20


class Change(StrEnum):
    """What happened to the file since the last look, besides growing."""

    NONE = "none"
    APPEARED = "appeared"
    REPLACED = "replaced"
    """Another file has its name: rotated, or deleted and made anew."""
    TRUNCATED = "truncated"
    """It became shorter."""
    REWRITTEN = "rewritten"
    """It is the same file, but its beginning is another."""
    VANISHED = "vanished"


@dataclass(frozen=True, kw_only=True, slots=True)
class News:
    """What is new in a file.

    Attributes:
        chunks: bytes that were added, in order; those of a file that was replaced come first.
        change: what else happened; after REPLACED, TRUNCATED and REWRITTEN the last chunks are a new file's.
        fresh: how many of `chunks`, from the end, are of the new file.
        behind_bytes: bytes that are there and were not read yet: poll again at once.
    """

    chunks: tuple[bytes, ...] = ()
    change: Change = Change.NONE
    fresh: int = 0
    behind_bytes: int = 0


@dataclass(slots=True)
class Follower:
    """Follows one path.

    Whoever writes may go on in a file that was renamed, until it is told to open the new one: as long as that is not
    there or is empty, the old one is read on. What was written between the last look and a truncation is read from
    the copy that was made before it, where that lies beside the file.

    Args:
        path: the file; it need not be there yet.
        offset: where to begin in the file that is there now, in bytes.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     follower = Follower(Path(folder, "train.log"))
        ...     before = follower.poll()
        ...     _ = follower.path.write_bytes(b"step:1")
        ...     news = follower.poll()
        >>> str(before.change), str(news.change), news.chunks
        ('none', 'appeared', (b'step:1',))
    """

    path: Path
    offset: int = 0
    _identity: tuple[int, int] | None = None
    _start: bytes = b""
    _descriptor: int | None = None
    _is_gone: bool = False

    def poll(self) -> News:
        """Return what is new since the last look; reads at most 8 MiB of each file.

        Raises:
            OSError: the file is there and can't be read.
        """
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return self._gone()
        identity = (found.st_dev, found.st_ino)
        change, chunks = Change.NONE, list[bytes]()
        if self._identity is None:
            change = Change.APPEARED
            self._begin(identity, self.offset)
        elif identity != self._identity:
            chunks += self._rest()
            if not found.st_size and self.path.is_file():  # nobody has written to it yet
                change = Change.APPEARED if self._is_gone else Change.NONE
                self._is_gone = False
                return News(chunks=tuple(chunks), change=change)
            change = Change.REPLACED
            self._begin(identity, 0)
        elif found.st_size < self.offset:
            change = Change.TRUNCATED
            chunks += self._copied()
            self._begin(identity, 0)
        elif self.offset and self._beginning() != self._start:
            change = Change.REWRITTEN
            chunks += self._copied()
            self._begin(identity, 0)
        elif self._is_gone:  # it has its name again
            change = Change.APPEARED
        self._is_gone = False
        data = self._read()
        fresh = [data] if data else []
        behind = max(0, found.st_size - self.offset)
        return News(
            chunks=(*chunks, *fresh),
            change=change,
            fresh=len(fresh) if change is not Change.NONE else 0,
            behind_bytes=behind,
        )

    def close(self) -> None:
        """Let go of the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _gone(self) -> News:
        """Return what was still written into a file that has no name any more."""
        if self._identity is None:
            return News()
        change = Change.NONE if self._is_gone else Change.VANISHED
        self._is_gone = True
        return News(chunks=tuple(self._rest()), change=change)

    def _copied(self) -> list[bytes]:
        """Read what a truncated file had beyond the offset from the copy of it that became its last part."""
        parts = earlier_parts(self.path)
        with suppress(OSError):
            if parts and self._start:
                with parts[-1].open("rb") as file:
                    if file.read(len(self._start)) == self._start:
                        file.seek(self.offset)
                        return [data] if (data := file.read(_MOST_BYTES)) else []
        return []

    def _begin(self, identity: tuple[int, int], offset: int) -> None:
        """Open the file that has the path now."""
        self.close()
        self._descriptor = os.open(self.path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0))
        self._identity, self.offset = identity, offset
        self._start = self._beginning()

    def _read(self) -> bytes:
        """Read on from the offset."""
        if self._descriptor is None:
            return b""
        os.lseek(self._descriptor, self.offset, os.SEEK_SET)
        data = os.read(self._descriptor, _MOST_BYTES)
        self.offset += len(data)
        if len(self._start) < _FINGERPRINT_BYTES:
            self._start = self._beginning()
        return data

    def _rest(self) -> list[bytes]:
        """Read what the old file holds beyond the offset."""
        pieces: list[bytes] = []
        while data := self._read():
            pieces.append(data)
        return pieces

    def _beginning(self) -> bytes:
        """Return the first bytes that were there when they were read last."""
        if self._descriptor is None:
            return b""
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        known = min(self.offset, _FINGERPRINT_BYTES)
        return os.read(self._descriptor, known) if known else b""
