"""What a merge reads and writes, as one digest: a merge goes on where one with the same digest was cut off."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, Self

from orz_ckpt.disk.stamp import THREADS, stamp

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from orz_ckpt.disk.stamp import Stamp
    from orz_ckpt.merge.plan import Plan
    from orz_ckpt.tensors.source import Source, SourceTensor

_VERSION: Final = 2


class Stamps:
    """The stamps of all files that tensors lie in; a context whose threads make them while a merge is planned.

    Args:
        tensors: of a source.
    """

    def __init__(self, tensors: Iterable[SourceTensor]) -> None:
        paths = {piece.block.path for tensor in tensors for part in tensor.parts for piece in part.pieces}
        self._pool = ThreadPoolExecutor(THREADS, "stamp")
        self._stamps = {path: self._pool.submit(stamp, path) for path in sorted(paths)}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def all(self) -> dict[Path, Stamp]:
        """Wait for them.

        Raises:
            UnreadableError: a file cannot be looked at.
        """
        return {path: made.result() for path, made in self._stamps.items()}


def fingerprint(plan: Plan, source: Source, stamps: Sequence[Stamp], *more: object) -> str:
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
