"""The container of `.wandb` files: blocks of 32 KiB with pieces of records, each with a checksum."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from orz_monitor.errors import UnreadableRunError
from orz_monitor.stores.base import Problem

HEADER: Final = struct.pack("<4sHB", b":W&B", 0xBEE1, 0)
_BLOCK: Final = 32768
_PIECE: Final = struct.Struct("<IHB")
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_SEEDS: Final = {kind: zlib.crc32(bytes([kind])) for kind in (_FULL, _FIRST, _MIDDLE, _LAST)}
"""A piece's checksum covers its kind, then its data."""
_LONGEST_RECORD_BYTES: Final = 256 << 20


def read_records(path: Path, problems: list[Problem]) -> Iterator[tuple[int, bytes]]:
    """Yield where each whole record begins, and its bytes; what is damaged is told in `problems` and stepped over.

    After damage, reading goes on with the next block.

    Raises:
        UnreadableRunError: the file is empty, or no `.wandb` file of a known version.
        OSError: it can't be read.
    """
    with path.open("rb") as file:
        block = file.read(_BLOCK)
        _check_header(path, block)
        begin, at, pieces, started = 0, len(HEADER), bytearray(), -1
        while block:
            for offset, kind, data in _pieces(path, block, begin, at, problems):
                if kind in {_FULL, _FIRST}:
                    if started >= 0:
                        problems.append(_problem(path, started, "a record without an end is left out"))
                    pieces, started = bytearray(), offset
                elif started < 0:
                    continue  # the rest of a record whose begin is damaged, which was told
                pieces += data
                if len(pieces) > _LONGEST_RECORD_BYTES:
                    problems.append(_problem(path, started, "a record longer than 256 MiB is left out"))
                    pieces, started = bytearray(), -1
                elif kind in {_FULL, _LAST}:
                    yield started, bytes(pieces)
                    pieces, started = bytearray(), -1
            begin, at = begin + len(block), 0
            block = file.read(_BLOCK)
        if started >= 0:
            problems.append(_problem(path, started, "the last record is cut off: the run goes on, or was killed"))


def _check_header(path: Path, block: bytes) -> None:
    """Refuse what is no `.wandb` file."""
    if not block:
        raise UnreadableRunError(
            f"{path}: an empty .wandb file; wandb writes the first block when it is full, or at the run's end",
            remedy="wait for the run to log more, or give its files/output.log",
        )
    if len(block) < len(HEADER) and HEADER.startswith(block):
        raise UnreadableRunError(
            f"{path}: cut off within its header", remedy="copy the file again when the run is over"
        )
    if not block.startswith(HEADER[:6]):
        raise UnreadableRunError(
            f"{path}: not a .wandb file: it begins with {block[:7]!r}", remedy="give an offline run's run-<id>.wandb"
        )
    if block[6] != HEADER[6]:
        raise UnreadableRunError(
            f"{path}: a .wandb file of version {block[6]}, this reader knows version 0",
            remedy="python -m pip install --upgrade orz-monitor",
        )


def _pieces(path: Path, block: bytes, begin: int, at: int, problems: list[Problem]) -> Iterator[tuple[int, int, bytes]]:
    """Yield the pieces of one block: where in the file each begins, its kind and its data."""
    while at + _PIECE.size <= len(block):
        checksum, length, kind = _PIECE.unpack_from(block, at)
        data = block[at + _PIECE.size : at + _PIECE.size + length]
        if kind not in _SEEDS or len(data) < length or zlib.crc32(data, _SEEDS[kind]) != checksum:
            torn = kind in _SEEDS and len(data) < length and len(block) < _BLOCK
            unwritten = not any(block[at:])
            if torn:
                message = "the last record is cut off: the run goes on, or was killed"
            elif unwritten:
                message = "zeros where a record is expected: the file's end was never written"
            else:
                message = "damaged: a record's checksum or length is wrong; reading goes on at the next block"
            problems.append(_problem(path, begin + at, message))
            return
        yield begin + at, kind, data
        at += _PIECE.size + length
    if len(block) < _BLOCK and any(block[at:]):
        problems.append(_problem(path, begin + at, "the last record is cut off: the run goes on, or was killed"))


def _problem(path: Path, offset: int, message: str) -> Problem:
    """Say what is wrong at a byte."""
    return Problem(file=path, place=f"byte {offset}", message=message)
