"""CRC-32C (Castagnoli) of many records at once."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

_POLYNOMIAL: Final = 0x82F63B78
"""Castagnoli's polynomial, bits reversed."""
_BLOCK: Final = 1024
"""Bytes of a record taken together; the tables of a block take 1 MiB."""
_STATE_BYTES: Final = 4
_MASK_DELTA: Final = 0xA282EAD8


def crc32c(rows: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Return the checksum of each row.

    The checksum is linear over exclusive or: each byte adds what it would alone, followed by as many zero bytes
    as follow it. So all rows go through one table look-up for each column, and no row waits for another.

    Args:
        rows: [N, L] bytes.

    Returns:
        [N] u32.
    """
    state = np.full(len(rows), 0xFFFFFFFF, dtype=np.uint32)
    for begin in range(0, rows.shape[1], _BLOCK):
        state = _advance(state, rows[:, begin : begin + _BLOCK])
    return state ^ np.uint32(0xFFFFFFFF)


def masked(checksums: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Return checksums as TFRecord files store them: rotated by 15 bits, plus a constant."""
    rotated = (checksums >> np.uint32(15)) | (checksums << np.uint32(17))
    return rotated + np.uint32(_MASK_DELTA)


def masked_of(data: bytes) -> int:
    """Return the masked checksum of a few bytes."""
    return int(masked(crc32c(np.frombuffer(data, dtype=np.uint8)[None, :]))[0])


def _advance(state: NDArray[np.uint32], rows: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Take a block of bytes into each state: [N] u32 and [N, W] bytes, W at most `_BLOCK`."""
    width = rows.shape[1]
    tables = _tables()
    if width < _STATE_BYTES:
        for column in range(width):
            state = tables[0][(state ^ rows[:, column]) & 0xFF] ^ (state >> np.uint32(8))
        return state
    out = np.zeros(len(rows), dtype=np.uint32)
    for column in range(width):
        byte = rows[:, column]
        if column < _STATE_BYTES:  # the state so far acts as if it were xored into the first bytes
            byte = byte ^ ((state >> np.uint32(8 * column)) & np.uint32(0xFF)).astype(np.uint8)
        out ^= tables[width - 1 - column].take(byte)
    return out


@lru_cache(maxsize=1)
def _tables() -> NDArray[np.uint32]:
    """Return [_BLOCK, 256] u32: what byte b adds when k zero bytes follow it."""
    tables = np.empty((_BLOCK, 256), dtype=np.uint32)
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> np.uint32(1)) ^ np.uint32(_POLYNOMIAL), table >> np.uint32(1))
    tables[0] = table
    for zeros in range(1, _BLOCK):
        before = tables[zeros - 1]
        tables[zeros] = table[before & 0xFF] ^ (before >> np.uint32(8))
    return tables
