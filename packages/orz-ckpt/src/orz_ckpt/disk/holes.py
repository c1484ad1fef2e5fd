"""Parts of a file that were never written, and read as zeros: the system knows where they are (`SEEK_HOLE`, lseek(2)).

A file of a few bytes can state any length. One that is hollow, which has more of such zeros than anybody saves, is
told before its bytes are read: that would take hours, and find nothing but zeros.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOLLOW_BYTES: Final = 256 * 1024**3
"""Bytes of holes from which on a file is hollow; a copy that leaves out zeros may have left out a few."""
HOLLOW_UNVOUCHED_BYTES: Final = 1024**3
"""The same of weights that no digest vouches for, in which any hole is an error."""
_BLOCK_BYTES: Final = 512
_MAX_HOLES: Final = 10_000


def is_hollow(path: Path, least_bytes: int = HOLLOW_BYTES) -> bool:
    """Return whether holes make up at least `least_bytes` of a file.

    Raises:
        OSError: it cannot be opened.
    """
    holes = find_holes(path)
    if len(holes) < _MAX_HOLES:
        return sum(end - begin for begin, end in holes) >= least_bytes
    status = path.stat()  # not all of them were counted
    return status.st_size - status.st_blocks * _BLOCK_BYTES >= least_bytes


def find_holes(path: Path) -> list[tuple[int, int]]:
    """Return the first byte of each hole and the byte after it, of 10,000 at most; none where the system does not say.

    Raises:
        OSError: the file cannot be opened.
    """
    if not hasattr(os, "SEEK_HOLE"):
        return []
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if status.st_blocks * _BLOCK_BYTES >= status.st_size:
            return []
        return list(_holes(descriptor, status.st_size))
    finally:
        os.close(descriptor)


def _holes(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    end = 0
    for _ in range(_MAX_HOLES):
        try:
            begin = os.lseek(descriptor, end, os.SEEK_HOLE)
            if begin >= size:
                return
            end = os.lseek(descriptor, begin, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                return  # a file system that knows of no holes
            end = size  # nothing but a hole is left
        yield begin, end
        if end >= size:
            return
