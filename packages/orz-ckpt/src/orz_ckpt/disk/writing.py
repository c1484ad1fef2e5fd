"""A file that another library writes: what the system says of a write that fails is kept.

`torch.save` to a path loses it: its stream answers a full disk with "unexpected pos 3564544 vs 3564436", and a broken
one with "iostream error", as if the program were wrong. Given an open file, it hides the system's error behind the
first of these. So it is given a `WrittenFile`, which still has that error afterwards.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from io import FileIO
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from _typeshed import ReadableBuffer


class WrittenFile(FileIO):
    """A new file, written from its start to its end, every byte once and in order.

    Args:
        path: of the file; what is there is replaced.

    Raises:
        OSError: it can't be opened.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "wb")
        self.failure: OSError | None = None
        """Of the first write that failed, with the file's name; after it nothing is written any more."""

    def write(self, data: ReadableBuffer, /) -> int:
        """Write all of `data`, of which the system may take less at a time, such as 2 GiB.

        Raises:
            OSError: the disk refuses, now or before: what came after a gap would be no file.
        """
        if self.failure is not None:
            raise self.failure
        left = memoryview(data).cast("B")
        nbytes = len(left)
        try:
            while left:
                left = left[super().write(left) :]
        except OSError as error:
            self.failure = self._named(error)
            raise self.failure from error
        return nbytes

    def flush_to_disk(self) -> None:
        """Wait until what was written is on the disk.

        Raises:
            OSError: it is not. On a network file system this is where a full disk shows.
        """
        try:
            os.fsync(self.fileno())
        except OSError as error:
            self.failure = self.failure or self._named(error)
            raise self.failure from error

    def close(self) -> None:
        """Close it; some network file systems say only now that the disk is full.

        Raises:
            OSError: the disk refuses.
        """
        try:
            super().close()
        except OSError as error:
            self.failure = self.failure or self._named(error)
            raise self.failure from error

    def _named(self, error: OSError) -> OSError:
        return OSError(error.errno, error.strerror, os.fspath(self.name))


_File = TypeVar("_File", bound=WrittenFile)


@contextmanager
def telling_own_failure(file: _File) -> Iterator[_File]:
    """Close `file` at the end of the block; if a write to it has failed, raise that, whatever was raised since.

    Raises:
        OSError: the disk refuses; it names the file.
    """
    try:
        with file:
            yield file
    except Exception as error:  # whatever the library made of it
        if file.failure is None or error is file.failure:
            raise
        raise file.failure from error
