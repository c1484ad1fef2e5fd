"""Files opened for reading only where they are files: a pipe would wait for a writer, a device may never end."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from io import BufferedReader, FileIO
from typing import TYPE_CHECKING, BinaryIO, Final

from orz_ckpt.errors import CkptError
from orz_cli.exits import ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from _typeshed import WriteableBuffer

_FLAGS: Final = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


class NotPlainError(CkptError, OSError):
    """Something is read as a file and is none."""

    exit_code = ExitCode.INCONCLUSIVE


def open_plain(path: Path) -> BinaryIO:
    """Open a plain file, or a link to one, for reading bytes.

    Raises:
        NotPlainError: it is a folder, a pipe or a device.
        OSError: it cannot be opened; that of a read that fails later names the file, too.
    """
    return BufferedReader(_NamedFile(path))


def open_unbuffered(path: Path) -> FileIO:
    """Open a plain file like `open_plain`, for who brings a buffer of their own.

    Raises:
        NotPlainError: it is a folder, a pipe or a device.
        OSError: it cannot be opened; that of a read that fails later names the file, too.
    """
    return _NamedFile(path)


class _NamedFile(FileIO):
    """A file that is named by the errors of its reads; Python names none where reading fails."""

    def __init__(self, path: Path) -> None:
        super().__init__(_descriptor(path), "rb")
        self._path = path

    def readinto(self, buffer: WriteableBuffer, /) -> int | None:
        with self._named():
            return super().readinto(buffer)

    def read(self, size: int | None = -1, /) -> bytes:
        with self._named():
            return super().read(size)

    def readall(self) -> bytes:
        with self._named():
            return super().readall()

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._path)) from error


def _descriptor(path: Path) -> int:
    descriptor = os.open(path, _FLAGS)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotPlainError(f"{path}: it is no plain file", remedy="remove it")
    return descriptor
