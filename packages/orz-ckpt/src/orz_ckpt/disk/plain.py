"""Files opened for reading only where they are files: a pipe would wait for a writer, a device may never end."""

from __future__ import annotations

import os
import stat
from io import FileIO
from typing import TYPE_CHECKING, BinaryIO, Final

from orz_ckpt.errors import CkptError
from orz_cli.exits import ExitCode

if TYPE_CHECKING:
    from pathlib import Path

_FLAGS: Final = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


class NotPlainError(CkptError, OSError):
    """Something is read as a file and is none."""

    exit_code = ExitCode.INCONCLUSIVE


def open_plain(path: Path) -> BinaryIO:
    """Open a plain file, or a link to one, for reading bytes.

    Raises:
        NotPlainError: it is a folder, a pipe or a device.
        OSError: it cannot be opened.
    """
    return os.fdopen(_descriptor(path), "rb")


def open_unbuffered(path: Path) -> FileIO:
    """Open a plain file like `open_plain`, for who brings a buffer of their own.

    Raises:
        NotPlainError: it is a folder, a pipe or a device.
        OSError: it cannot be opened.
    """
    return FileIO(_descriptor(path), "rb")


def _descriptor(path: Path) -> int:
    descriptor = os.open(path, _FLAGS)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotPlainError(f"{path}: it is no plain file", remedy="remove it")
    return descriptor
