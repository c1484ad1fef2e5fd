"""Do two places hold the same numbers? Answered without reading them where the files' own checksums can tell."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from orz_ckpt.disk.holes import is_hollow
from orz_ckpt.tensors.gather import Files, Gatherer
from orz_ckpt.tensors.source import Block, whole

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from orz_ckpt.formats.archive import Record

_CHUNK_BYTES: Final = 512 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Copy:
    """Two blocks of one shape that should hold the same numbers."""

    tensor: str
    used: Block
    """The one that `Source.tensors` points to."""
    other: Block


def same(copy: Copy, records: Mapping[Path, Sequence[Record]]) -> bool:
    """Return whether both blocks hold the same bytes.

    Blocks at the same place of records with equal length and checksum are taken to be equal: whether a record has the
    bytes of its checksum is for `verify` to find out. Others are read, up to the first difference.

    Args:
        copy: the two.
        records: the records of each file's archive, in file order; none for a file without checksums.

    Raises:
        OSError: they have to be read, and cannot be.
    """
    first, second = copy.used, copy.other
    if (first.dtype, first.shape) != (second.dtype, second.shape):
        return False
    places = [place_of(block, records.get(block.path, ())) for block in (first, second)]
    if first.strides == second.strides and places[0] == places[1] is not None:
        return True
    if any(is_hollow(block.path) for block in (first, second)):
        return True  # zeros without end, of which `verify` says that they were never written
    with Files() as files:
        return _same_bytes(first, second, Gatherer(files))


def place_of(block: Block, records: Sequence[Record]) -> tuple[int, int, int] | None:
    """Return checksum and length of the record around a block, and where in it the block begins.

    Args:
        block: of some file.
        records: of that file's archive.
    """
    index = bisect_right(records, block.offset, key=lambda record: record.offset) - 1
    if index < 0 or not records[index].crc32:  # 0: written without checksums
        return None
    record = records[index]
    return record.crc32, record.nbytes, block.offset - record.offset


def _same_bytes(first: Block, second: Block, gatherer: Gatherer) -> bool:
    chunk = max(1, _CHUNK_BYTES // first.itemsize)
    for begin in range(0, first.numel, chunk):
        end = min(begin + chunk, first.numel)
        data = [bytearray((end - begin) * first.itemsize) for _ in range(2)]
        for block, buffer in zip((first, second), data, strict=True):
            gatherer.read(whole("", block), begin, end, memoryview(buffer))
        if data[0] != data[1]:
            return False
    return True
