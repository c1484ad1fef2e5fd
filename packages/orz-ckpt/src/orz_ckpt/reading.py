"""Every byte of a file once: its digest, its tensors' digests and what their numbers look like.

A file is read in pieces of about 8 MiB into one buffer: enough for blake3's threads, and still in the caches
when the numbers are looked at. It is read, not mapped: a mapped file that another node cuts short kills
the process.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from blake3 import blake3

from orz_ckpt.floats import FLOATS, largest_magnitude, nonfinite_positions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from io import FileIO
    from pathlib import Path

    from orz_ckpt.formats.safetensors import Header, Tensor

PIECE_BYTES: Final = 8 * 1024 * 1024

_LARGEST_ITEM_BYTES: Final = 8


class Hasher(Protocol):
    """A running hash."""

    def update(self, data: memoryview, /) -> object:
        """Add `data`."""

    def hexdigest(self) -> str:
        """Return the hash so far."""


@dataclass(slots=True)
class Numbers:
    """What the floating-point numbers of one tensor look like."""

    largest: int = 0
    """The largest magnitude as bits without sign; 0 where all numbers are zero."""
    nonfinite: int = 0
    """How many are Inf or NaN."""
    first_nonfinite: int = -1
    """Index of the first of them in the flattened tensor; -1 where there is none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What one pass over a file found."""

    size: int
    digest: str
    tensor_digests: Mapping[str, str] = field(default_factory=dict)
    numbers: Mapping[str, Numbers] = field(default_factory=dict)
    """Of the tensors whose type is in `floats.FLOATS`."""


def read_once(
    path: Path,
    header: Header | None = None,
    *,
    algo: str = "blake3",
    tensor_digests: bool = False,
    numbers: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Reading:
    """Read `path` from its first byte to its last.

    Args:
        path: the file.
        header: its header, where it is a safetensors file; without one only its digest is taken.
        algo: `blake3` or `sha256`.
        tensor_digests: hash each tensor, too.
        numbers: look for Inf, NaN and zeros in each floating-point tensor.
        progress: called with the number of bytes of each piece.

    Raises:
        OSError: it cannot be read, or changed after its header was read.
    """
    whole = _new_hasher(algo)
    hashers: dict[str, Hasher] = {}
    seen: dict[str, Numbers] = {}
    buffer = memoryview(bytearray(PIECE_BYTES))
    with path.open("rb", buffering=0) as stream:
        for piece in _pieces(stream, buffer) if header is None else _planned(path, stream, buffer, header):
            whole.update(piece.data)
            for part in piece.parts:
                data = piece.data[part.start : part.stop]
                if tensor_digests:
                    hashers.setdefault(part.tensor.name, _new_hasher(algo)).update(data)
                if numbers and part.tensor.dtype in FLOATS:
                    _look(seen.setdefault(part.tensor.name, Numbers()), part, data)
            if progress:
                progress(len(piece.data))
        size = stream.tell()
    return Reading(
        size=size,
        digest=whole.hexdigest(),
        tensor_digests={name: hasher.hexdigest() for name, hasher in hashers.items()},
        numbers=seen,
    )


@dataclass(frozen=True, slots=True)
class _Part:
    """The bytes of one tensor in a piece."""

    tensor: Tensor
    begin: int
    """Bytes of the tensor before these."""
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class _Piece:
    data: memoryview
    parts: tuple[_Part, ...] = ()


def _pieces(stream: FileIO, buffer: memoryview) -> Iterator[_Piece]:
    while count := stream.readinto(buffer):
        yield _Piece(buffer[:count])


def _planned(path: Path, stream: FileIO, buffer: memoryview, header: Header) -> Iterator[_Piece]:
    """Yield the pieces of a safetensors file, cut so that no number lies across two of them."""
    for length, parts in _plan(header):
        data, filled = buffer[:length], 0
        while filled < length and (count := stream.readinto(data[filled:])):
            filled += count
        if filled < length:
            raise OSError(f"{path} became shorter while it was read")
        yield _Piece(data, parts)
    if stream.read(1):
        raise OSError(f"{path} became longer while it was read")


def _plan(header: Header) -> Iterator[tuple[int, tuple[_Part, ...]]]:
    """Yield the length of each piece and the tensors in it, in file order."""
    left = header.data_offset
    while left:
        yield min(left, PIECE_BYTES), ()
        left -= min(left, PIECE_BYTES)
    used, parts = 0, list[_Part]()
    for tensor in header.tensors:
        begin = 0
        while True:
            take = min(tensor.nbytes - begin, PIECE_BYTES - used)
            if begin + take < tensor.nbytes:
                take -= take % _LARGEST_ITEM_BYTES
            parts.append(_Part(tensor, begin, used, used + take))
            begin, used = begin + take, used + take
            if begin == tensor.nbytes:
                break
            yield used, tuple(parts)
            used, parts = 0, []
    if parts:
        yield used, tuple(parts)


def _look(numbers: Numbers, part: _Part, data: memoryview) -> None:
    """Add the numbers of one part of a tensor to what is known of it."""
    kind = FLOATS[part.tensor.dtype]
    largest = largest_magnitude(data, kind)
    numbers.largest = max(numbers.largest, largest)
    if largest >= kind.nonfinite:
        positions = nonfinite_positions(data, kind)
        if not numbers.nonfinite:
            numbers.first_nonfinite = part.begin // kind.nbytes + int(positions[0])
        numbers.nonfinite += len(positions)


def _new_hasher(algo: str) -> Hasher:
    """Return an empty hash of kind `algo`."""
    if algo == "blake3":
        return blake3(max_threads=blake3.AUTO)
    if algo == "sha256":
        return hashlib.sha256()
    raise ValueError(f"unknown hash {algo!r}")
