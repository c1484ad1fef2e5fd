"""CRC-32 as fast as a disk: by zlib-ng where it is installed, and otherwise by zlib on several cores.

zlib-ng multiplies without carry, and one core of it is enough. `zlib` on one is slower than a disk, so that parts are
summed up at once, and their sums put together. The sum of two parts follows from theirs: the first part's sum is moved
over as many zero bytes as the second part has, and both are added. Moving over zeros is linear over GF(2), so moving
over 2^k of them is a 32 x 32 matrix of bits (as in `crc32_combine` of zlib 1.2.11).
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
except ImportError:  # it comes with `orz-ckpt[fast]`
    from zlib import crc32 as crc32_of

__all__ = ["crc32", "crc32_of", "joined"]

_POLYNOMIAL: Final = 0xEDB8_8320
_BITS: Final = 32
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


def joined(first: int, second: int, second_bytes: int) -> int:
    """Return the CRC-32 of two parts in a row from the sums of both and the length of the second."""
    return _moved(first, second_bytes) ^ second


@cache
def _pool() -> ThreadPoolExecutor:
    """Return threads that all readers share."""
    return ThreadPoolExecutor(max_workers=_CORES, thread_name_prefix="crc32")


def _moved(crc: int, zero_bytes: int) -> int:
    """Return the sum of what `crc` is the sum of, moved in front of so many bytes."""
    for power in range(zero_bytes.bit_length()):
        if zero_bytes >> power & 1:
            crc = _times(_zeros(power), crc)
    return crc


@cache
def _zeros(power: int) -> tuple[int, ...]:
    """Return the matrix, a column an entry, that moves a sum over 2^power zero bytes."""
    if power:
        half = _zeros(power - 1)
        return tuple(_times(half, column) for column in half)
    bit = (_POLYNOMIAL, *(1 << number for number in range(_BITS - 1)))
    for _ in range(3):  # 2, 4, 8 bits
        bit = tuple(_times(bit, column) for column in bit)
    return bit


def _times(matrix: tuple[int, ...], vector: int) -> int:
    product = 0
    for column in matrix:
        if vector & 1:
            product ^= column
        vector >>= 1
    return product
