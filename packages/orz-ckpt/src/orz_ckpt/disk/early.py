"""The ends of a checkpoint's files, asked of the disk before anybody reads them.

Headers, pickles and directories of archives stand there, and each is read by a few small reads that wait for the one
before. A command that asks for all of them first finds them in memory once its modules are loaded.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Final

from orz_ckpt.disk.walk import walk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HEAD_BYTES: Final = 64 * 1024
TAIL_BYTES: Final = 1024 * 1024
"""Holds the directory of an archive of some thousand tensors."""
_MOST: Final = 64
"""Files that are asked for: to open them must not take longer than what it spares."""
_FLAGS: Final = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


def ask_for_ends(path: Path) -> None:
    """Let the disk bring both ends of the files at `path`, of a folder and those right below it; nobody waits.

    What cannot be read is left to whoever reads it.
    """
    if not hasattr(os, "posix_fadvise"):
        return
    for file in islice(_files(path), _MOST):
        with suppress(OSError):
            descriptor = os.open(file, _FLAGS)
            try:
                _ask(descriptor)
            finally:
                os.close(descriptor)


def _files(path: Path) -> Iterator[Path]:
    """Yield the files of a folder and of the folders in it; a file is yielded itself."""
    if not path.is_dir():
        yield path
        return
    for folder, names in walk(path, failed=lambda *_: None, max_depth=1):
        yield from (folder / name for name in names)


def _ask(descriptor: int) -> None:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        return
    os.posix_fadvise(descriptor, 0, HEAD_BYTES, os.POSIX_FADV_WILLNEED)
    tail = max(HEAD_BYTES, status.st_size - TAIL_BYTES)
    if tail < status.st_size:
        os.posix_fadvise(descriptor, tail, TAIL_BYTES, os.POSIX_FADV_WILLNEED)
