"""Are there parts of a file that were never written?

A crash can leave a file with its full length and a hole in it: it reads as zeros, and loads without a word. The system
knows where holes are (`SEEK_HOLE`, lseek(2)). A copy that saves space makes holes of zeros, too, so a file whose
digest was compared is not looked at.

A file of a few bytes can state any length. One that is hollow, which has more of such zeros than anybody saves, is told
before its bytes are read: that would take hours, and find nothing but zeros.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

from orz_ckpt.findings import CkptFinding, finding
from orz_ckpt.quoting import brief

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    Stretch = tuple[str, int, int]
    """Name of a tensor, its first byte, and the byte after its last one."""

_REMEDY: Final = (
    "copy the file again from where it was saved; where a copy that leaves out zeros made it (`rsync -S`,"
    " `cp --sparse`), compare it with the first one: orz ckpt diff"
)
HOLLOW_BYTES: Final = 256 * 1024**3
"""Bytes of holes from which on a file is hollow; a copy that leaves out zeros may have left out a few."""
HOLLOW_UNVOUCHED_BYTES: Final = 1024**3
"""The same of weights that no digest vouches for, in which any hole is an error."""
_BLOCK_BYTES: Final = 512
_MAX_HOLES: Final = 10_000


def check_holes(path: Path, tensors: Iterable[Stretch] = ()) -> Iterator[CkptFinding]:
    """Say which bytes of `path` were never written, and in which tensor the first of them are."""
    holes = find_holes(path)
    if not holes:
        return
    begin, end = holes[0]
    total = sum(last - first for first, last in holes)
    name = next((tensor for tensor, first, last in tensors if first < end and begin < last), "")
    inside = f", in {brief(name)}" if name else ""
    more = f"; with {len(holes) - 1} more holes {total:,} bytes" if len(holes) > 1 else ""
    message = f"bytes {begin:,}-{end:,} were never written and read as zeros{inside}{more}"
    yield finding("file_holes", message, remedy=_REMEDY, path=path, tensor=name)


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
