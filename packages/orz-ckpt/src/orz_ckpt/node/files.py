"""The bytes of a file on this machine, in pieces with their digests."""
# ruff: noqa: PTH116  paths are text here

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from blake3 import blake3

from orz_ckpt.disk.reading import read_once

CHUNK_BYTES: Final = 64 * 1024 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class FileState:
    """Tells whether a file is still the one that was looked at."""

    size: int
    mtime_ns: int
    inode: int
    device: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunk:
    """Bytes of a file, and their blake3 as the reader's machine saw them."""

    offset: int
    data: Any
    """A buffer: an array of bytes."""
    digest: str


def state_of(path: str) -> FileState:
    """Return size and time of the plain file at `path`.

    Raises:
        OSError: it is not there, or is no plain file; links are not followed.
    """
    status = os.stat(path, follow_symlinks=False)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(f"{path} is not a plain file")
    return FileState(size=status.st_size, mtime_ns=status.st_mtime_ns, inode=status.st_ino, device=status.st_dev)


def digest_of(path: str) -> str:
    """Return the blake3 of a whole file.

    Raises:
        OSError: it cannot be read.
    """
    state_of(path)
    return read_once(Path(path)).digest


def chunks(path: str, *, offset: int = 0, chunk_bytes: int = CHUNK_BYTES) -> Iterator[Chunk]:
    """Yield the bytes of a plain file from `offset` on, read once, each chunk in memory of its own.

    Raises:
        OSError: it is no plain file, or cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(descriptor, "rb", buffering=0) as stream:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(f"{path} is not a plain file")
        stream.seek(offset)
        while offset < status.st_size:
            data = np.empty(min(chunk_bytes, status.st_size - offset), dtype=np.uint8)
            view, filled = data.data, 0
            while filled < len(view) and (count := stream.readinto(view[filled:])):
                filled += count
            if filled < len(view):
                raise OSError(f"{path} became shorter while it was read")
            yield Chunk(offset=offset, data=data, digest=blake3(view, max_threads=blake3.AUTO).hexdigest())
            offset += filled
