"""Digests of files, in one pass and in constant memory."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final, Protocol

from blake3 import blake3

if TYPE_CHECKING:
    from pathlib import Path

CHUNK_BYTES: Final = 8 * 1024 * 1024
"""Large enough for blake3's threads, small enough to stay near the caches."""


class Hasher(Protocol):
    """A running hash."""

    def update(self, data: memoryview, /) -> object:
        """Add `data`."""

    def hexdigest(self) -> str:
        """Return the hash so far."""


def new_hasher(algo: str, *, threads: int = 1) -> Hasher:
    """Return an empty hash of kind `algo`: `blake3` or `sha256`."""
    if algo == "blake3":
        return blake3(max_threads=threads)
    if algo == "sha256":
        return hashlib.sha256()
    raise ValueError(f"unknown hash {algo!r}")


def hash_file(path: Path, *, algo: str = "blake3", threads: int = 1) -> tuple[int, str]:
    """Return the bytes in `path` and their digest in hexadecimal.

    Reads instead of mapping it: a mapped file that another node cuts short kills the process.
    """
    hasher = new_hasher(algo, threads=threads)
    buffer = memoryview(bytearray(CHUNK_BYTES))
    size = 0
    with path.open("rb", buffering=0) as stream:
        while count := stream.readinto(buffer):
            hasher.update(buffer[:count])
            size += count
    return size, hasher.hexdigest()
