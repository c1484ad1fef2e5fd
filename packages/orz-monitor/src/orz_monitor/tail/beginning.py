"""What stands before the end of a log that is shown first: its earlier parts, and its own beginning."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final

from orz_monitor.errors import UnreadableRunError, unreadable
from orz_monitor.tail.readers import Reader

CHUNK_BYTES: Final = 1 << 18
"""Of what is read at once, so that nobody waits long for a turn."""


class Beginning:
    """Reads earlier parts of a log, compressed ones too, and then the beginning of the log itself, in small pieces.

    All files are opened at once: what is renamed or removed while others are read is read all the same.

    Args:
        path: the log.
        parts: its earlier parts, the oldest first.
        num_bytes: how much of the log itself is its beginning.

    Raises:
        OSError: the log can't be opened; a part that can't be is noted when its turn comes.
    """

    def __init__(self, path: Path, parts: Sequence[Path], num_bytes: int) -> None:
        self._path = path
        self._left = num_bytes
        self._parts = deque((part, _opened(part)) for part in parts)
        self._file = path.open("rb")
        self._part: tuple[Path, BinaryIO, Iterator[bytes]] | None = None
        self._has_parts = bool(parts)
        self._num_bytes = num_bytes + sum(
            os.fstat(file.fileno()).st_size for _, file in self._parts if not isinstance(file, OSError)
        )
        self._read_bytes = 0

    @property
    def share(self) -> float:
        """How much was read by now, 0 to 1."""
        now = self._part[1].tell() if self._part is not None else 0
        return min((self._read_bytes + now) / max(1, self._num_bytes), 1.0)

    def read(self, reader: Reader, until: float) -> bool:
        """Hand what comes next to a reader, and tell it where a file begins; returns whether there is more.

        Args:
            reader: gets the bytes.
            until: when to stop, on the monotonic clock.

        Raises:
            OSError: the log can't be read.
        """
        while time.monotonic() < until:
            if self._part is not None or self._parts:
                self._read_part(reader)
            elif self._has_parts:
                self._has_parts = False
                reader.next_file(self._path)
            elif data := self._file.read(min(self._left, CHUNK_BYTES)):
                self._left -= len(data)
                self._read_bytes += len(data)
                reader.feed(data)
            else:
                return False
        return True

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        self._end_part()
        for _, file in self._parts:
            if not isinstance(file, OSError):
                file.close()

    def _read_part(self, reader: Reader) -> None:
        """Read more of the part that is open, or open the next one; what can't be read is noted."""
        try:
            if self._part is None:
                path, file = self._parts.popleft()
                if isinstance(file, OSError):
                    raise unreadable(path, file) from file
                self._part = path, file, _pieces(path, file, reader)
            data = next(self._part[2], b"")
        except UnreadableRunError as error:
            reader.note(f"{error.message}: not read with the log of which it is an earlier part")
            data = b""
        if data:
            reader.feed(data)
        else:
            self._end_part()

    def _end_part(self) -> None:
        """Close the part that is open."""
        if self._part is not None:
            self._read_bytes += self._part[1].tell()
            self._part[1].close()
            self._part = None


def _opened(part: Path) -> BinaryIO | OSError:
    """Open a part, or return why that fails."""
    try:
        return part.open("rb")
    except OSError as error:
        return error


def _pieces(path: Path, file: BinaryIO, reader: Reader) -> Iterator[bytes]:
    """Yield the bytes of a part, unpacked, once a reader knows that they come; note where they end too early."""
    from orz_monitor.transport.opening import chunks_of  # noqa: PLC0415 - gzip, after the first picture

    torn: list[str] = []
    is_begun = False
    for chunk in chunks_of(file, path, torn.append):
        if not is_begun:
            reader.next_file(path)
            is_begun = True
        for at in range(0, len(chunk), CHUNK_BYTES):
            yield chunk[at : at + CHUNK_BYTES]
    if torn:
        reader.note(f"{path} {torn[0]}, and was read up to there")
