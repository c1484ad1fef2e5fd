"""Every byte of a file once: its digest, its tensors' digests, its records' checksums, and what its numbers look like.

A file is read in pieces of about 2 MiB into four buffers: enough for blake3's threads, and still in the caches
when the numbers are looked at. It is read, not mapped: a mapped file that another node cuts short kills
the process.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import closing
from dataclasses import dataclass, field
from itertools import repeat
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

from blake3 import blake3

from orz_ckpt.disk.ahead import read_ahead
from orz_ckpt.disk.crc32 import crc32
from orz_ckpt.disk.plain import open_unbuffered
from orz_ckpt.manifest import CHUNK_BYTES
from orz_ckpt.memory import memory_for
from orz_ckpt.tensors.floats import FLOATS, largest_magnitude, nonfinite_positions, only_value
from orz_ckpt.tensors.statistics import SUMMED, Statistics, Summing

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
    from io import FileIO
    from pathlib import Path

    from orz_ckpt.formats.archive import Record
    from orz_ckpt.formats.safetensors import Tensor

PIECE_BYTES: Final = 2 * 1024 * 1024

NONE_YET: Final = -1
_LARGEST_ITEM_BYTES: Final = 8


class Hasher(Protocol):
    """A running hash."""

    def update(self, data: memoryview, /) -> object:
        """Add `data`."""

    def hexdigest(self) -> str:
        """Return the hash so far."""


class Contents(Protocol):
    """Where the tensors of a file lie: the header of a safetensors file is one."""

    @property
    def tensors(self) -> Sequence[Tensor]:
        """In file order; none overlaps another."""

    @property
    def file_bytes(self) -> int:
        """Length of the file."""


@dataclass(slots=True)
class Numbers:
    """What the floating-point numbers of one tensor look like."""

    largest: int = 0
    """The largest magnitude as bits without sign; 0 where all numbers are zero."""
    nonfinite: int = 0
    """How many are Inf or NaN."""
    first_nonfinite: int = -1
    """Index of the first of them in the flattened tensor; -1 where there is none."""
    only: int | None = NONE_YET
    """The bits that all numbers have, `NONE_YET` where there are none; None where two differ."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What one pass over a file found."""

    size: int
    digest: str
    """Empty where none was asked for."""
    tensor_digests: Mapping[str, str] = field(default_factory=dict)
    numbers: Mapping[str, Numbers] = field(default_factory=dict)
    """Of the tensors whose type is in `floats.FLOATS`."""
    statistics: Mapping[str, Statistics] = field(default_factory=dict)
    """Of the tensors whose type is in `statistics.SUMMED`, where they were asked for."""
    crc32s: Mapping[str, int] = field(default_factory=dict)
    """Checksums of the records."""
    chunks: tuple[str, ...] = ()
    """Digests of each `manifest.CHUNK_BYTES`, where they were asked for."""
    sha256: str = ""
    """Of the file, beside a digest of another kind, where it was asked for."""


def read_once(
    path: Path,
    contents: Contents | None = None,
    *,
    records: Sequence[Record] = (),
    algo: str | None = "blake3",
    tensor_digests: bool | Collection[str] = False,
    chunks: bool = False,
    sha256: bool = False,
    numbers: bool = False,
    statistics: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Reading:
    """Read `path` from its first byte to its last.

    Args:
        path: the file.
        contents: where its tensors lie, such as its header; without it they are not looked at one by one.
        records: of an archive, in file order: the CRC-32 of each is taken. They need `contents`, too.
        algo: `blake3`, `sha256`, or None for no digest of the file.
        tensor_digests: hash each tensor, too, or those of these names.
        chunks: hash each chunk of the manifest, too.
        sha256: take the SHA-256 of the file, too.
        numbers: look for Inf, NaN, zeros and equal numbers in each floating-point tensor.
        statistics: take mean, spread and extremes of each, too: several times the work of all the rest.
        progress: called with the number of bytes of each piece.

    Raises:
        OSError: it cannot be read, or changed after its contents were read.
    """
    whole = new_hasher(algo) if algo else None
    tensors = contents.tensors if contents else ()
    wanted = {tensor.name for tensor in tensors} if tensor_digests is True else set(tensor_digests or ())
    hashers = {tensor.name: new_hasher(algo or "blake3") for tensor in tensors if tensor.name in wanted}
    others: list[Hasher] = [hashlib.sha256()] if sha256 else []
    chunked = ChunkHasher(algo or "blake3") if chunks else None
    seen = {tensor.name: Numbers() for tensor in tensors if numbers and tensor.dtype in FLOATS}
    sums = {tensor.name: Summing(tensor.dtype) for tensor in tensors if statistics and tensor.dtype in SUMMED}
    crc32s = {record.name: 0 for record in records}
    size = 0
    with memory_for(path), open_unbuffered(path) as stream:
        pieces = _pieces(stream) if contents is None else _planned(path, stream, contents, records)
        with closing(pieces):
            for piece in pieces:
                for updated in (whole, chunked, *others):
                    if updated is not None:
                        updated.update(piece.data)
                for part in piece.tensors:
                    data = piece.data[part.start : part.stop]
                    if part.of.name in hashers:
                        hashers[part.of.name].update(data)
                    if part.of.name in seen:
                        look(seen[part.of.name], data, part.of.dtype, part.begin)
                    if part.of.name in sums:
                        sums[part.of.name].update(data)
                for section in piece.records:
                    data = piece.data[section.start : section.stop]
                    crc32s[section.of.name] = crc32(data, crc32s[section.of.name])
                size += len(piece.data)
                if progress:
                    progress(len(piece.data))
    return Reading(
        size=size,
        digest=whole.hexdigest() if whole else "",
        tensor_digests={name: hasher.hexdigest() for name, hasher in hashers.items()},
        numbers=seen,
        statistics={name: summing.finish() for name, summing in sums.items()},
        crc32s=crc32s,
        chunks=chunked.digests() if chunked else (),
        sha256=others[0].hexdigest() if others else "",
    )


class ChunkHasher:
    """Hashes a file chunk by chunk."""

    def __init__(self, algo: str) -> None:
        self._algo, self._done = algo, list[str]()
        self._hasher, self._nbytes = new_hasher(algo), 0

    def update(self, data: memoryview, /) -> None:
        """Add the next bytes of the file."""
        while len(data):
            part = data[: CHUNK_BYTES - self._nbytes]
            self._hasher.update(part)
            self._nbytes += len(part)
            data = data[len(part) :]
            if self._nbytes == CHUNK_BYTES:
                self._done.append(self._hasher.hexdigest())
                self._hasher, self._nbytes = new_hasher(self._algo), 0

    def digests(self) -> tuple[str, ...]:
        """Return the digests of all chunks, the last one's, too."""
        return (*self._done, self._hasher.hexdigest()) if self._nbytes else tuple(self._done)


class _Placed(Protocol):
    """A tensor or a record."""

    @property
    def name(self) -> str: ...
    @property
    def offset(self) -> int: ...
    @property
    def end(self) -> int: ...


_Of = TypeVar("_Of", bound=_Placed)


@dataclass(frozen=True, slots=True)
class _Part(Generic[_Of]):
    """The bytes of a tensor or a record in a piece."""

    of: _Of
    begin: int
    """Bytes of it before these."""
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class _Piece:
    data: memoryview
    tensors: Sequence[_Part[Tensor]] = ()
    records: Sequence[_Part[Record]] = ()


def _pieces(stream: FileIO) -> Generator[_Piece]:
    with closing(read_ahead(stream, repeat(PIECE_BYTES), piece_bytes=PIECE_BYTES)) as pieces:
        yield from map(_Piece, filter(None, pieces))


def _planned(path: Path, stream: FileIO, contents: Contents, records: Sequence[Record]) -> Generator[_Piece]:
    """Yield the pieces of a file, cut so that no number of a tensor lies across two of them."""
    tensors, sections = _Cutter(contents.tensors), _Cutter(records)
    begin = 0
    with closing(read_ahead(stream, _lengths(contents, tensors), piece_bytes=PIECE_BYTES)) as pieces:
        for data in pieces:
            end = _next_cut(begin, contents, tensors)
            if begin + len(data) < end:
                raise OSError(f"{path} became shorter while it was read")
            yield _Piece(data, tensors.parts(begin, end), sections.parts(begin, end))
            begin = end
    if os.fstat(stream.fileno()).st_size > begin:
        raise OSError(f"{path} became longer while it was read")


def _lengths(contents: Contents, tensors: _Cutter[Tensor]) -> Iterator[int]:
    """Yield the bytes of each piece of a file."""
    begin = 0
    while begin < contents.file_bytes:
        end = _next_cut(begin, contents, tensors)
        yield end - begin
        begin = end


def _next_cut(begin: int, contents: Contents, tensors: _Cutter[Tensor]) -> int:
    """Return where the piece ends that begins at `begin`."""
    return tensors.whole_numbers(min(begin + PIECE_BYTES, contents.file_bytes))


class _Cutter(Generic[_Of]):
    """Deals out what lies in a file one behind another."""

    def __init__(self, placed: Sequence[_Of]) -> None:
        self._placed = placed
        self._next = 0
        """The first that does not end before the last cut."""

    def whole_numbers(self, end: int) -> int:
        """Return the last place up to `end` that is inside no number."""
        index = self._next
        while index < len(self._placed) and self._placed[index].end <= end:
            index += 1
        if index == len(self._placed) or self._placed[index].offset >= end:
            return end
        return end - (end - self._placed[index].offset) % _LARGEST_ITEM_BYTES

    def parts(self, begin: int, end: int) -> list[_Part[_Of]]:
        """Return what lies between two places, which are counted from the last ones on."""
        parts: list[_Part[_Of]] = []
        while self._next < len(self._placed) and (of := self._placed[self._next]).offset < end:
            first, last = max(of.offset, begin), min(of.end, end)
            parts.append(_Part(of, first - of.offset, first - begin, last - begin))
            if of.end > end:
                break
            self._next += 1
        return parts


def look(numbers: Numbers, data: memoryview, dtype: str, begin: int) -> None:
    """Add the next numbers of a tensor to what is known of it.

    Args:
        numbers: what is known.
        data: the numbers, whole ones.
        dtype: a key of `floats.FLOATS`.
        begin: bytes of the tensor before these.
    """
    kind = FLOATS[dtype]
    largest = largest_magnitude(data, kind)
    numbers.largest = max(numbers.largest, largest)
    if numbers.only is not None and len(data):
        value = only_value(data, kind)
        numbers.only = value if numbers.only in {NONE_YET, value} else None
    if largest >= kind.nonfinite:
        positions = nonfinite_positions(data, kind)
        if not numbers.nonfinite:
            numbers.first_nonfinite = begin // kind.nbytes + int(positions[0])
        numbers.nonfinite += len(positions)


def new_hasher(algo: str) -> Hasher:
    """Return an empty hash of kind `algo`."""
    if algo == "blake3":
        return blake3(max_threads=blake3.AUTO)
    if algo == "sha256":
        return hashlib.sha256()
    raise ValueError(f"unknown hash {algo!r}")
