"""Follow a growing file: rotation, truncation, deletion, and file systems that tell nobody of changes.

Nothing is waited for here: `poll` looks at the file and returns what is new. Whoever polls chooses how often.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from orz_monitor.rotation import earlier_parts
from orz_monitor.transport.rotated import KNOWN_BYTES, Trace, found_copy, place_of, written_after

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
        between: files that had the path and have lost it again since the last look, each whole, in order; they come
            after what is left of the file that was replaced, and before the new one.
        change: what else happened; after REPLACED, TRUNCATED and REWRITTEN the last chunks are a new file's.
        fresh: how many of `chunks`, from the end, are of the new file.
        behind_bytes: bytes that are there and were not read yet: poll again at once.
    """

    chunks: tuple[bytes, ...] = ()
    between: tuple[bytes, ...] = ()
    change: Change = Change.NONE
    fresh: int = 0
    behind_bytes: int = 0


@dataclass(slots=True)
class Follower:
    """Follows one path.

    Whoever writes may go on in a file that was renamed, until it is told to open the new one: as long as that is not
    there or is empty, the old one is read on. What was written between the last look and a truncation is read from
    the copy that was made before it, where that lies beside the file, packed or not; and where a log was rotated more
    than once between two looks, the parts in between are read.

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
    _end: bytes = b""
    _empty: tuple[int, int] | None = None
    _descriptor: int | None = None
    _is_gone: bool = False

    def poll(self) -> News:
        """Return what is new since the last look: of the file that is there now at most 8 MiB, of earlier ones all.

        Raises:
            OSError: the file is there and can't be read.
        """
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return self._gone()
        identity = (found.st_dev, found.st_ino)
        change, chunks, between = Change.NONE, list[bytes](), list[bytes]()
        if self._identity is None:
            change = Change.APPEARED
            self._begin(identity, self.offset)
        elif identity != self._identity:
            chunks += self._rest()
            is_empty = not found.st_size and self.path.is_file()
            if not is_empty or identity != self._empty:
                between = self._between()
            if is_empty and not between:  # nobody has written to it yet
                change = Change.APPEARED if self._is_gone else Change.NONE
                self._is_gone, self._empty = False, identity
                return News(chunks=tuple(chunks), change=change)
            change = Change.REPLACED
            self._begin(identity, 0)
        elif found.st_size < self.offset:
            change = Change.TRUNCATED
            chunks, between = self._copied()
            self._begin(identity, 0)
        elif self.offset and self._beginning() != self._start:
            change = Change.REWRITTEN
            chunks, between = self._copied()
            self._begin(identity, 0)
        elif self._is_gone:  # it has its name again
            change = Change.APPEARED
        self._is_gone = False
        data = self._read()
        fresh = [data] if data else []
        behind = max(0, found.st_size - self.offset)
        return News(
            chunks=(*chunks, *fresh),
            between=tuple(between),
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

    def _copied(self) -> tuple[list[bytes], list[bytes]]:
        """Read what a truncated file had beyond the offset from the copy of it, and the parts after that."""
        parts = earlier_parts(self.path)
        found = found_copy(parts, self._trace)
        if found is None:
            return [], []
        at, rest = found
        try:
            copied_ns = parts[at].stat().st_mtime_ns
        except OSError:  # it was renamed since
            return [rest], []
        return [rest] if rest else [], written_after(parts[at + 1 :], copied_ns)

    def _between(self) -> list[bytes]:
        """Read the parts that were written after the file that was followed, and before the one that is there now."""
        parts = earlier_parts(self.path)
        if self._descriptor is None or not parts:
            return []
        old = os.fstat(self._descriptor)
        at = place_of(parts, old, self._trace)
        return written_after(parts if at is None else parts[at + 1 :], old.st_mtime_ns)

    @property
    def _trace(self) -> Trace:
        """What the file that was followed is known by."""
        return Trace(start=self._start, end=self._end, offset=self.offset)

    def _begin(self, identity: tuple[int, int], offset: int) -> None:
        """Open the file that has the path now."""
        self.close()
        self._descriptor = os.open(self.path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0))
        self._identity, self.offset = identity, offset
        self._start = self._beginning()
        os.lseek(self._descriptor, max(0, offset - KNOWN_BYTES), os.SEEK_SET)
        self._end = os.read(self._descriptor, min(offset, KNOWN_BYTES)) if offset else b""

    def _read(self) -> bytes:
        """Read on from the offset."""
        if self._descriptor is None:
            return b""
        os.lseek(self._descriptor, self.offset, os.SEEK_SET)
        data = os.read(self._descriptor, _MOST_BYTES)
        self.offset += len(data)
        self._end = (self._end + data[-KNOWN_BYTES:])[-KNOWN_BYTES:]
        if len(self._start) < KNOWN_BYTES:
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
        known = min(self.offset, KNOWN_BYTES)
        return os.read(self._descriptor, known) if known else b""
