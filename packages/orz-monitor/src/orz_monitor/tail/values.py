"""The file with the values of a run, which may be large and grows: its end first, then the whole of its log."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from orz_monitor.rotation import MOST_PARTS, earlier_parts
from orz_monitor.tail.beginning import CHUNK_BYTES, Beginning
from orz_monitor.tail.followed_file import FollowedFile
from orz_monitor.tail.readers import Reader, make_reader

if TYPE_CHECKING:
    from orz_monitor.dialects import Dialect

FIRST_BYTES: Final = 8 << 20
"""Of a large file the last ones are read first."""
_MOST_UNREAD: Final = 128
"""Pieces that wait for the reader, 32 MB; more is left in the file."""


class _Piece(NamedTuple):
    """Bytes of a file.

    Attributes:
        data: the bytes.
        num_changes: how many files had the path before the one that they are of.
    """

    data: bytes
    num_changes: int


class Values:
    """Follows a file, and reads it with what turns it into a run.

    Of a large file the end is read first, so that there is something to see at once; its beginning follows in small
    pieces, and so do earlier parts of a log that was rotated. Then the whole is what `reader` has read.

    Args:
        path: the file.
        folder: the run folder that it is in, or None.
        hear: gets the bytes as they come.
        dialects: the dialects to read a log with; None for all known ones.

    Attributes:
        reader: what has read most so far; None before the first byte.
        num_bytes: what was read of the file.
    """

    def __init__(
        self,
        path: Path,
        folder: Path | None,
        hear: Callable[[bytes], object],
        *,
        dialects: Sequence[type[Dialect]] | None = None,
    ) -> None:
        self._path = path
        self._folder = folder
        self._dialects = dialects
        self._hear = hear
        self._file = FollowedFile(path, last_bytes=FIRST_BYTES)
        self._unread: deque[_Piece] = deque()
        self._whole: Reader | None = None
        self._beginning: Beginning | None = None
        self._arrived: deque[_Piece] = deque()
        self._num_changes: dict[Reader, int] = {}
        self._is_looked_at = False
        self.parts: list[Path] = []
        """Earlier parts of the log, which are read with it."""
        self.reader: Reader | None = None
        self.num_bytes = 0

    @property
    def exists(self) -> bool:
        """Whether the file was there at the last poll."""
        return self._file.exists

    @property
    def num_changes(self) -> int:
        """How often the file was rotated, truncated or rewritten."""
        return self._file.num_changes

    @property
    def is_whole(self) -> bool:
        """Whether `reader` reads on at the end, and not the beginning."""
        return self._whole is None

    @property
    def is_read(self) -> bool:
        """Whether all that was written was handed to the reader."""
        return self._whole is None and not self._unread

    @property
    def share_read(self) -> float:
        """How much of the beginning was read by now, 0 to 1; 1 where nothing is left to read."""
        return self._beginning.share if self._whole is not None and self._beginning is not None else 1.0

    def poll(self) -> bool:
        """Take what is new, so much at a time that the reader can keep up; tell whether there was anything.

        Raises:
            OSError: the file is there and can't be read.
        """
        new = False
        while len(self._unread) < _MOST_UNREAD and (data := self._file.poll()):
            new = True
            self.num_bytes += len(data)
            pieces = (data[at : at + CHUNK_BYTES] for at in range(0, len(data), CHUNK_BYTES))
            self._unread += (_Piece(piece, self._file.num_changes) for piece in pieces)
            self._hear(data)
        return new

    def read(self, until: float) -> tuple[bool, bool]:
        """Hand new bytes to the reader, and then old ones; tell whether there were any, and whether it has more to say.

        Args:
            until: when to stop, on the monotonic clock.

        Raises:
            UnreadableRunError: the file is no log.
            OSError: it can't be read.
        """
        new = bool(self._unread)
        if self.reader is None and not new and self._file.exists and not self._is_looked_at:
            self._is_looked_at = True
            new = bool(earlier_parts(self._path))  # it was rotated, and has nothing in it yet
            self._unread += [_Piece(b"", self._file.num_changes)] * new
        while self._unread and time.monotonic() < until:
            piece = self._unread[0]
            if self.reader is None:
                self.reader, piece = self._begin(piece)  # what is refused is refused again, whenever somebody looks
            elif self._whole is not None:
                self._arrived.append(piece)
            self._unread.popleft()
            self._feed(self.reader, piece)
        if new or self._whole is None:
            return new, new
        is_done = self._read_beginning(self._whole, until)
        return True, is_done

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        if self._beginning is not None:
            self._beginning.close()

    def _begin(self, piece: _Piece) -> tuple[Reader, _Piece]:
        """Make a reader for the end, and one for the whole where more stands before it; return the first and a piece.

        The piece is the first one, from the beginning of a line: half a line says nothing by itself.
        """
        reader = make_reader(self._path, self._folder, self._dialects)
        self.parts = earlier_parts(self._path) if reader.has_parts else []
        left_out = self.parts[:-MOST_PARTS]
        if not self._file.start and not self.parts:
            return reader, piece
        self._whole = make_reader(self._path, self._folder, self._dialects)
        if left_out:
            self._whole.note(f"{left_out[0]} and so on, {len(left_out)} files: not read; the newest {MOST_PARTS} are")
        self._beginning = Beginning(self._path, self.parts[-MOST_PARTS:], self._file.start)
        self._arrived.append(piece)
        return reader, piece._replace(data=piece.data.partition(b"\n")[2]) if self._file.start else piece

    def _read_beginning(self, whole: Reader, until: float) -> bool:
        """Read on in what stands before the end that was read first; tell whether its reader is the one that counts."""
        if self._beginning is not None and self._beginning.read(whole, until):
            return False
        while self._arrived and time.monotonic() < until:
            self._feed(whole, self._arrived.popleft())
        if self._arrived:
            return False
        self.reader, self._whole = whole, None
        if self._beginning is not None:
            self._beginning.close()
        return True

    def _feed(self, reader: Reader, piece: _Piece) -> None:
        """Hand bytes to a reader, which is told where another file begins."""
        if piece.num_changes != self._num_changes.get(reader, piece.num_changes):
            reader.next_file(self._path)
        self._num_changes[reader] = piece.num_changes
        reader.feed(piece.data)
