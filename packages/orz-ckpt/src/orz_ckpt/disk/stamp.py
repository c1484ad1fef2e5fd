"""What tells a file from any other without reading all of it, and which files changed while they were read."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, NamedTuple

from orz_ckpt.disk.early import HEAD_BYTES, TAIL_BYTES
from orz_ckpt.disk.links import resolved
from orz_ckpt.disk.plain import open_plain
from orz_ckpt.errors import UnreadableError, unreadable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

THREADS: Final = 4
"""Files stamped at once: while one waits for the disk, others hash."""


class Stamp(NamedTuple):
    """What a file is known by."""

    path: str
    """Without links."""
    inode: int
    size: int
    mtime_ns: int
    ends: str
    """Digest of its first and last bytes."""

    @property
    def lasting(self) -> Stamp:
        """What stays while a file does: some network file systems number one anew meanwhile."""
        return self._replace(inode=0)


def stamp(path: Path) -> Stamp:
    """Return what tells a file from any other without reading all of it.

    Two saves have files of the same names and sizes, and a copy can have the time of another file. So the place and
    the inode count, too, and the bytes at both ends: the header of a safetensors file, the checksums of an archive.

    Raises:
        UnreadableError: it cannot be read.
    """
    try:
        with open_plain(path) as stream:
            status = os.fstat(stream.fileno())
            digest = hashlib.sha256(stream.read(HEAD_BYTES))
            stream.seek(max(HEAD_BYTES, status.st_size - TAIL_BYTES))
            digest.update(stream.read(TAIL_BYTES))
    except OSError as error:
        raise unreadable(path, error) from error
    return Stamp(os.fspath(resolved(path)), status.st_ino, status.st_size, status.st_mtime_ns, digest.hexdigest())


def stamps(paths: Iterable[Path]) -> dict[Path, Stamp | None]:
    """Return the stamps of files, made by several threads; None of one that is not there.

    Raises:
        UnreadableError: one cannot be read.
    """
    paths = list(paths)
    with ThreadPoolExecutor(THREADS, "stamp") as pool:
        return dict(zip(paths, pool.map(_stamp_if_there, paths), strict=True))


def changed(before: Mapping[Path, Stamp]) -> list[Path]:
    """Return the files that are no longer what they were, or are gone.

    Who reads the files of a checkpoint one after another, and finds none here at the end, has read those of one moment.

    Raises:
        UnreadableError: one cannot be read.
    """
    return [path for path, now in stamps(before).items() if now is None or now.lasting != before[path].lasting]


def _stamp_if_there(path: Path) -> Stamp | None:
    try:
        return stamp(path)
    except UnreadableError as error:
        if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
            return None
        raise
