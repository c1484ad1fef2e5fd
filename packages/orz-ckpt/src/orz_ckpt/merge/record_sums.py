"""The CRC-32 of an archive's records, out of the ranges that a merge reads anyway.

A merge reads a record in pieces, several at a time and in no order. The sum of each range is taken while its bytes are
at hand; what nobody needed, such as the padding of a partition, is read at the end, and the sums are put together.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from orz_ckpt.disk.crc32 import crc32_of, joined
from orz_ckpt.disk.uncached import UncachedFiles

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from pathlib import Path

    from orz_ckpt.disk.spans import Span
    from orz_ckpt.formats.archive import Record

_PIECE_BYTES: Final = 1024 * 1024


@dataclass(slots=True)
class _Range:
    """Bytes that one thread read one behind the other."""

    begin: int
    end: int
    crc: int


class SummedFiles(UncachedFiles):
    """Open files that sum up what is read of those that were named.

    Args:
        paths: the files.
    """

    def __init__(self, paths: Collection[Path]) -> None:
        super().__init__()
        self._ranges: dict[Path, list[_Range]] = {path: [] for path in paths}
        self._last = threading.local()

    def read_into(self, path: Path, buffer: memoryview, offset: int) -> None:
        """Fill `buffer` as every reader of files does, and sum up what was read."""
        super().read_into(path, buffer, offset)
        self._sum(path, buffer, offset)

    def read_span(self, span: Span) -> memoryview:
        """Return the bytes of a span as `UncachedFiles` does, and sum up what was wanted of them."""
        data = super().read_span(span)
        for begin, end in span.stretches():
            self._sum(span.path, data[begin - span.begin : end - span.begin], begin)
        return data

    def _sum(self, path: Path, data: memoryview, offset: int) -> None:
        ranges = self._ranges.get(path)
        if ranges is None:
            return
        before: tuple[Path, _Range] | None = getattr(self._last, "range", None)
        if before is not None and before[0] == path and before[1].end == offset:
            before[1].crc = crc32_of(data, before[1].crc)
            before[1].end += len(data)
            return
        read = _Range(offset, offset + len(data), crc32_of(data))
        ranges.append(read)
        self._last.range = (path, read)

    def crc32s(self, path: Path, records: Iterable[Record]) -> dict[str, int]:
        """Return the CRC-32 of each record; call it once no thread reads any more.

        Raises:
            OSError: what was not read yet cannot be.
        """
        ranges = iter(sorted(self._ranges.get(path, ()), key=lambda read: read.begin))
        sums: dict[str, int] = {}
        following = next(ranges, None)
        for record in sorted(records, key=lambda record: record.offset):
            inside: list[_Range] = []
            while following is not None and following.begin < record.end:
                if record.offset <= following.begin and following.end <= record.end:
                    inside.append(following)
                following = next(ranges, None)
            sums[record.name] = self._crc32(path, record, inside)
        return sums

    def _crc32(self, path: Path, record: Record, ranges: list[_Range]) -> int:
        if any(first.end > second.begin for first, second in pairwise(ranges)):
            ranges = []  # read twice, or with gaps: all of it is read once more
        total, place = 0, record.offset
        for read in ranges:
            total = self._read(path, place, read.begin, total)
            total = joined(total, read.crc, read.end - read.begin)
            place = read.end
        return self._read(path, place, record.end, total)

    def _read(self, path: Path, begin: int, end: int, total: int) -> int:
        """Return the sum of what `total` is the sum of, followed by bytes `begin` to `end` of the file."""
        buffer = memoryview(bytearray(min(_PIECE_BYTES, max(0, end - begin))))
        for place in range(begin, end, _PIECE_BYTES):
            piece = buffer[: min(_PIECE_BYTES, end - place)]
            super().read_into(path, piece, place)
            total = crc32_of(piece, total)
        return total
