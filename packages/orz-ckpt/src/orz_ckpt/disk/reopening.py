"""What others wrote, opened again: is it here, with the bytes that they hashed?"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from orz_ckpt.disk.plain import open_unbuffered
from orz_ckpt.disk.reading import PIECE_BYTES, new_hasher
from orz_ckpt.errors import StorageError
from orz_ckpt.manifest import CHUNK_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from io import FileIO
    from pathlib import Path

    from orz_ckpt.manifest import FileEntry

_MAX_THREADS: Final = min(4, os.cpu_count() or 1)


def require_written(folder: Path, files: Mapping[str, FileEntry], *, all_here: bool = True) -> None:
    """Open each file again, and compare its size and the bytes at its end with what its writer hashed.

    Whoever commits does this, in another process than the writer's and perhaps on another node: what is named in a
    manifest is really here. Of a large file, that is the last chunk that has a digest, or its last tensor; where that
    one is large, too, its shortest.

    Args:
        folder: that the names begin at.
        files: hashed while they were written.
        all_here: whether none may be missing; else those are passed over that are on another node's disk.

    Raises:
        StorageError: a file is missing or differs.
        OSError: one can't be read.
    """

    def require(name: str) -> None:
        path, entry = folder / name, files[name]
        if path.is_file():
            _require(path, entry)
        elif all_here:
            raise _lost(path, "it is not here")

    if files:
        with ThreadPoolExecutor(max_workers=_MAX_THREADS) as pool:
            list(pool.map(require, files))


def _require(path: Path, entry: FileEntry) -> None:
    with open_unbuffered(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        if size != entry.size:
            raise _lost(path, f"it has {size:,} bytes here, {entry.size:,} were written")
        begin, end, digest = _sample(entry)
        if _digest(stream, begin, end, entry.algo) != digest:
            raise _lost(path, f"bytes {begin:,} to {end:,} are not those that were written")


def _sample(entry: FileEntry) -> tuple[int, int, str]:
    """Return where bytes with a digest of their own begin and end, and that digest; of a large file, few of them."""
    if entry.size > CHUNK_BYTES and entry.chunks:
        return (len(entry.chunks) - 1) * CHUNK_BYTES, entry.size, entry.chunks[-1]
    tensors = [tensor for tensor in (entry.tensors or {}).values() if tensor.nbytes]
    if entry.size > CHUNK_BYTES and tensors:
        last = max(tensors, key=lambda tensor: tensor.offset)
        shortest = min(tensors, key=lambda tensor: (tensor.nbytes, tensor.offset))
        chosen = last if last.nbytes <= CHUNK_BYTES else shortest
        return chosen.offset, chosen.offset + chosen.nbytes, chosen.digest
    return 0, entry.size, entry.digest


def _digest(stream: FileIO, begin: int, end: int, algo: str) -> str:
    hasher = new_hasher(algo)
    stream.seek(begin)
    while begin < end and (data := stream.read(min(PIECE_BYTES, end - begin))):
        hasher.update(memoryview(data))
        begin += len(data)
    return hasher.hexdigest()


def _lost(path: Path, what: str) -> StorageError:
    return StorageError(
        f"{path} was written and flushed, and cannot be relied on: {what}",
        remedy="see whether all nodes have one disk there, and that it is in order",
        path=str(path),
    )
