"""The CRC-32 of two parts in a row from the sums of both, without their bytes.

The first part's sum is moved over as many zero bytes as the second part has, and both are added. Moving over zeros is
linear over GF(2), so moving over 2^k of them is a 32 x 32 matrix of bits (as in `crc32_combine` of zlib 1.2.11).
"""

from __future__ import annotations

from functools import cache
from typing import Final

_POLYNOMIAL: Final = 0xEDB8_8320
_BITS: Final = 32


def joined(first: int, second: int, second_bytes: int) -> int:
    """Return the CRC-32 of two parts in a row from the sums of both and the length of the second."""
    return _moved(first, second_bytes) ^ second


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
