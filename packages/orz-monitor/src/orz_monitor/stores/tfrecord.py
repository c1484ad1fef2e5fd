"""TFRecord files, which hold TensorBoard's events: records with their lengths and checksums."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from orz_monitor.stores.base import Problem
from orz_monitor.stores.crc32c import masked_of

WINDOW_BYTES: Final = 16 << 20
"""Read at once; memory does not grow with the file."""
LONGEST_RECORD_BYTES: Final = 1 << 30
_HEAD: Final = struct.Struct("<QI")
_AROUND: Final = _HEAD.size + 4
"""Bytes of a record that are not its data: length, checksum of the length, checksum of the data."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Window:
    """Whole records of a stretch of a file.

    Attributes:
        data: the bytes of the stretch.
        offset: where it begins in the file.
        starts: [N] i64, where the data of each record begins in `data`; its checksum follows its data.
        lengths: [N] i64, how many bytes each has.
    """

    data: bytes
    offset: int
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]


def read_windows(path: Path, problems: list[Problem], *, window_bytes: int = WINDOW_BYTES) -> Iterator[Window]:
    """Yield a file's whole records, window by window; where they end early, `problems` says why.

    Raises:
        OSError: the file can't be read.
    """
    known: dict[int, int] = {}
    with path.open("rb") as file:
        carried, offset, wanted = b"", 0, 0
        while True:
            read = file.read(max(window_bytes, wanted - len(carried)))
            data = carried + read
            starts, lengths, end, error = _frame(data, known)
            if starts:
                yield Window(
                    data=data, offset=offset, starts=np.array(starts, np.int64), lengths=np.array(lengths, np.int64)
                )
            if error:
                problems.append(Problem(file=path, place=f"byte {offset + end}", message=error))
                return
            if not read:
                break
            carried, offset = data[end:], offset + end
            wanted = _AROUND + _HEAD.unpack_from(carried)[0] if len(carried) >= _HEAD.size else 0
        if end < len(data):
            message = "the last record is cut off: it is being written, or its writer was killed"
            problems.append(Problem(file=path, place=f"byte {offset + end}", message=message))


def _frame(data: bytes, known: dict[int, int]) -> tuple[list[int], list[int], int, str]:
    """Find whole records: where they start, how long they are, where the last one ends, and what stopped the search.

    Args:
        data: bytes that begin with a record.
        known: lengths that were met, with the checksum of each; grows.
    """
    starts, lengths = list[int](), list[int]()
    at, stop, unpack = 0, len(data), _HEAD.unpack_from
    while at + _HEAD.size <= stop:  # a length is checked before anybody waits for so many bytes
        length, checksum = unpack(data, at)
        if known.get(length) != checksum:
            if masked_of(data[at : at + 8]) != checksum:
                return starts, lengths, at, "damaged: the checksum of a record's length is wrong; the rest is not read"
            if length > LONGEST_RECORD_BYTES:
                return starts, lengths, at, f"a record of {length} bytes, more than is read; the rest is not read"
            known[length] = checksum
        end = at + _AROUND + length
        if end > stop:
            break
        starts.append(at + _HEAD.size)
        lengths.append(length)
        at = end
    return starts, lengths, at, ""
