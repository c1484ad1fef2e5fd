"""Files opened for reading only where they are files: a pipe would wait for a writer, a device may never end."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, BinaryIO, Final

from orz_ckpt.errors import CkptError
from orz_cli.exits import ExitCode

if TYPE_CHECKING:
    from pathlib import Path

_FLAGS: Final = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


class NotPlainError(CkptError, OSError):
    """Something is read as a file and is none."""

    exit_code = ExitCode.INCONCLUSIVE


def open_plain(path: Path, *, buffering: int = -1) -> BinaryIO:
    """Open a plain file for reading bytes.

    Args:
        path: the file, or a link to it.
        buffering: as for `open`.

    Raises:
        NotPlainError: it is a folder, a pipe or a device.
        OSError: it cannot be opened.
    """
    descriptor = os.open(path, _FLAGS)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotPlainError(f"{path}: it is no plain file", remedy="remove it")
    return os.fdopen(descriptor, "rb", buffering)
