"""Files opened for reading only where they are files: a pipe would wait for a writer, a device may never end."""

from __future__ import annotations

import os
import stat
from io import BufferedReader, FileIO
from typing import TYPE_CHECKING, BinaryIO, Final

from orz_ckpt.errors import CkptError
from orz_cli.exits import ExitCode

if TYPE_CHECKING:
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
    return BufferedReader(_NamedFile(path))  # not of `st_blksize`, 4 MiB on Lustre: headers are read in small pieces


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
        try:
            return super().readinto(buffer)
        except OSError as error:
            raise self._named(error) from error

    def read(self, size: int | None = -1, /) -> bytes:
        try:
            return super().read(size)
        except OSError as error:
            raise self._named(error) from error

    def readall(self) -> bytes:
        try:
            return super().readall()
        except OSError as error:
            raise self._named(error) from error

    def _named(self, error: OSError) -> OSError:
        return OSError(error.errno, error.strerror, str(self._path))


def _descriptor(path: Path) -> int:
    descriptor = os.open(path, _FLAGS)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotPlainError(f"{path}: it is no plain file", remedy="remove it")
    return descriptor
