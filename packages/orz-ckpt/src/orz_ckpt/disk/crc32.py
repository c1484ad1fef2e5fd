"""CRC-32 as fast as a disk: by zlib-ng where it is installed, and otherwise by zlib on several cores.

zlib-ng multiplies without carry, and one core of it is enough. `zlib` on one is slower than a disk, so that parts are
summed up at once, and their sums put together. zlib-ng does that, too; Python's `zlib` does not.
"""

from __future__ import annotations

import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Final

try:
    from zlib_ng.zlib_ng import crc32 as crc32_of
    from zlib_ng.zlib_ng import crc32_combine as joined
except ImportError:  # it comes with `orz-ckpt[fast]`
    from zlib import crc32 as crc32_of

    from orz_ckpt.disk.crc32_joined import joined

__all__ = ["crc32", "crc32_of", "joined"]

_PART_BYTES: Final = 1024 * 1024
"""Smaller parts are not worth a thread."""
_CORES: Final = min(8, os.cpu_count() or 1)


def crc32(data: memoryview, begin: int = 0) -> int:
    """Return the CRC-32 of what `begin` is the sum of, followed by `data`."""
    parts = min(_CORES, len(data) // _PART_BYTES) if crc32_of is zlib.crc32 else 1
    if parts <= 1:
        return crc32_of(data, begin)
    cuts = [len(data) * number // parts for number in range(parts + 1)]
    pieces = [data[first:last] for first, last in pairwise(cuts)]
    total = begin
    for piece, part in zip(pieces, _pool().map(crc32_of, pieces), strict=True):
        total = joined(total, part, len(piece))
    return total


@cache
def _pool() -> ThreadPoolExecutor:
    """Return threads that all readers share."""
    return ThreadPoolExecutor(max_workers=_CORES, thread_name_prefix="crc32")
