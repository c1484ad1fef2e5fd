"""What a merge reads and writes, as one digest: a merge goes on where one with the same digest was cut off."""

from __future__ import annotations

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, Self

from orz_ckpt.disk.early import HEAD_BYTES, TAIL_BYTES
from orz_ckpt.disk.links import resolved
from orz_ckpt.disk.plain import open_plain
from orz_ckpt.tensors.gather import UnreadableError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from orz_ckpt.merge.plan import Plan
    from orz_ckpt.tensors.source import Source, SourceTensor

_VERSION: Final = 2
_READERS: Final = 4
"""Of files at once: while one waits for the disk, others hash."""


class Stamps:
    """The stamps of all files that tensors lie in; a context whose threads make them while a merge is planned.

    Args:
        tensors: of a source.
    """

    def __init__(self, tensors: Iterable[SourceTensor]) -> None:
        paths = {piece.block.path for tensor in tensors for part in tensor.parts for piece in part.pieces}
        self._pool = ThreadPoolExecutor(_READERS, "fingerprint")
        self._stamps = [self._pool.submit(stamp, path) for path in sorted(paths)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def all(self) -> list[list[object]]:
        """Wait for them.

        Raises:
            UnreadableError: a file cannot be looked at.
        """
        return [made.result() for made in self._stamps]


def fingerprint(plan: Plan, source: Source, stamps: list[list[object]], *more: object) -> str:
    """Return a digest of what is read, as far as `stamp` tells files apart, and of what is written.

    Two merges with the same fingerprint write the same bytes, so one can go on where the other was cut off.

    Args:
        plan: what is written.
        source: what is read.
        stamps: of the files that it lies in.
        more: anything of JSON's types that the output depends on.
    """
    written = [(file.name, hashlib.sha256(file.header).hexdigest()) for file in plan.files]
    added = [(name, tensor.plus.scale) for name, tensor in source.tensors.items() if tensor.plus is not None]
    text = json.dumps([_VERSION, stamps, written, added, more])
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def stamp(path: Path) -> list[object]:
    """Return what tells a file from any other without reading all of it.

    Two saves have files of the same names and sizes, and a copy can have the time of another file. So the place and
    the inode count, too, and the bytes at both ends: the header of a safetensors file, the checksums of an archive.

    Returns:
        Path without links, inode, size in bytes, time in nanoseconds, digest of both ends.

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
        raise UnreadableError(
            f"{path} cannot be read: {error.strerror or error}",
            remedy="check the permissions and the disk, then try again",
        ) from error
    return [os.fspath(resolved(path)), status.st_ino, status.st_size, status.st_mtime_ns, digest.hexdigest()]
