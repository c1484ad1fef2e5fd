"""The container that torch wrote before 1.6, and writes where it is told to: a stream of pickles, then the storages.

Layout (`_legacy_save` in `torch/serialization.py` of torch 2.13; DeepSpeed 0.19.8 with
`"checkpoint": {"checkpoint_serialization": false}`): the pickles of a magic number, of the protocol's number 1001, of a
dictionary with the byte order, of the value, and of the list of the storages' keys; then for each key, in that order,
the number of elements as 8 bytes, little-endian, and the elements.

Where a storage lies is known once all pickles were read, so the value's pickle is read twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

from orz_ckpt.formats.inert import BadPickleError, Inert, Limits, OtherPickleError, shown
from orz_ckpt.formats.inert_pickle import load_pickle
from orz_ckpt.formats.torch_tensors import Rebuilder, Storage, storage_dtype
from orz_ckpt.quoting import brief
from orz_ckpt.tensors.dtypes import DTYPE_BITS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MAGIC: Final = 0x1950A86A20F9469CFC6C
_PROTOCOL: Final = 1001
_COUNT_BYTES: Final = 8
_WINDOW_BYTES: Final = 1024 * 1024
"""Most files have all their pickles in the first of these; a larger part is read where it does not suffice."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Content:
    """What a file says, and the names that it mentions."""

    value: object
    globals: frozenset[str]


def load(stream: BinaryIO, path: Path, place: range, *, inert: frozenset[str], limits: Limits) -> Content:
    """Read the bytes at `place` of an open file; its storages are not read.

    Raises:
        BadPickleError: they are no such stream, or a damaged one.
        HostileError: a pickle calls what is not known to only hold data.
    """
    window = _WINDOW_BYTES
    while True:
        stream.seek(place.start)
        data = memoryview(stream.read(min(len(place), window)))
        try:
            return _load(stream, path, data, place, inert, limits)
        except BadPickleError:
            if window >= min(len(place), limits.pickle_bytes):
                raise
            window = min(window * 8, limits.pickle_bytes)


def _load(
    stream: BinaryIO, path: Path, data: memoryview, place: range, inert: frozenset[str], limits: Limits
) -> Content:
    """Read a stream of which `data` is the beginning."""
    begin = _header_bytes(data, inert, limits)
    stated = _Stated()
    rebuilder = Rebuilder(path, len(place))
    first = load_pickle(
        data[begin:],
        calls=dict.fromkeys(rebuilder.calls, lambda args: Inert("tensor", args)),
        persistent=stated.add,
        inert=inert,
        limits=limits,
    )
    end = begin + first.nbytes
    keys = load_pickle(data[end:], limits=limits)
    storages = dict(_storages(stream, stated, keys.value, range(place.start + end + keys.nbytes, place.stop)))
    value = load_pickle(
        data[begin:end],
        calls=rebuilder.calls,
        persistent=lambda identity: storages[stated.key(identity)],
        inert=inert,
        limits=limits,
    )
    return Content(value=value.value, globals=value.globals)


def _header_bytes(data: memoryview, inert: frozenset[str], limits: Limits) -> int:
    """Check the first three pickles, and return where the fourth one begins."""
    begin, header = 0, list[object]()
    for expected in (_MAGIC, _PROTOCOL, None):
        try:
            part = load_pickle(data[begin:], inert=inert, limits=limits)
        except BadPickleError as error:
            if begin:
                raise
            what = f"it begins with {shown(bytes(data[:8]))}, as neither an archive nor a stream of torch does"
            raise BadPickleError(f"{what}: {error}") from None
        begin += part.nbytes
        header.append(part.value)
        if expected is not None and part.value != expected:
            what = f"it holds {shown(part.value)} where torch writes {expected}: some other pickle"
            raise OtherPickleError(what)
    if not isinstance(header[-1], dict) or header[-1].get("little_endian") is not True:
        raise BadPickleError("its numbers are big-endian, which this reader does not turn around")
    return begin


class _Stated(dict[str, tuple[str, int]]):
    """Type and number of elements of each storage, as the value's pickle states them."""

    def add(self, identity: object) -> Inert:
        """Remember a storage; what is returned only holds its place."""
        key = self.key(identity)
        match identity:
            case (_, kind, _, _, int(numel), None):
                stated = (storage_dtype(kind), numel)
            case _:
                raise BadPickleError(f"storage {brief(key)} is no whole one of elements of one type")
        if self.setdefault(key, stated) != stated:
            raise BadPickleError(f"storage {brief(key)} is stated with two types or lengths")
        return Inert("storage")

    def key(self, identity: object) -> str:
        """Return the key of a storage in a persistent id: ("storage", type, key, location, elements, view)."""
        match identity:
            case ("storage", _, str(key), _, _, _):
                return key
            case _:
                raise BadPickleError("a reference to something that is no storage")


def _storages(stream: BinaryIO, stated: _Stated, keys: object, place: range) -> Iterator[tuple[str, Storage]]:
    """Yield where each storage lies in `place`, which they fill."""
    if (
        not isinstance(keys, list)
        or not all(isinstance(key, str) for key in keys)
        or (len(keys), set(keys)) != (len(stated), set(stated))
    ):
        raise BadPickleError("its list of storages is not that of its value")
    begin = place.start
    for key in keys:
        dtype, numel = stated[key]
        stream.seek(begin)
        count = stream.read(min(_COUNT_BYTES, max(0, place.stop - begin)))
        offset, nbytes = begin + _COUNT_BYTES, numel * DTYPE_BITS[dtype] // 8
        if len(count) < _COUNT_BYTES or numel < 0 or offset + nbytes > place.stop:
            raise BadPickleError(f"storage {brief(key)} of {nbytes:,} bytes was cut off")
        if int.from_bytes(count, "little") != numel:
            raise BadPickleError(f"storage {brief(key)} is stated with two lengths")
        yield key, Storage(key=key, dtype=dtype, numel=numel, offset=offset, nbytes=nbytes)
        begin = offset + nbytes
    if begin != place.stop:
        raise BadPickleError(f"{place.stop - begin:,} bytes follow its last storage")
