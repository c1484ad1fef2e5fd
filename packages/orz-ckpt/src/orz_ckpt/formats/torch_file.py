"""A file of `torch.save`: its value with every tensor as a place in the file, read without torch.

Two containers, both of `torch/serialization.py` of torch 2.13:

- a ZIP archive (`_save`, the default since torch 1.6) with the records `<stem>/data.pkl`, one `<stem>/data/<key>` for
  each storage, `<stem>/version` and `<stem>/byteorder`;
- the older stream (`_legacy_save`), see `legacy_torch`.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, BinaryIO, Final

from orz_ckpt.disk.plain import NotPlainError, open_plain
from orz_ckpt.errors import FormatError, HostileError
from orz_ckpt.formats import legacy_torch
from orz_ckpt.formats.alike import key_of
from orz_ckpt.formats.archive import SIGNATURE, Record, UnsafeRecordError, read_records
from orz_ckpt.formats.inert import LIMITS, BadPickleError, Limits, OtherPickleError
from orz_ckpt.formats.inert_pickle import load_pickle
from orz_ckpt.formats.torch_tensors import Rebuilder, Storage, UnsupportedTensorError, storage_dtype
from orz_ckpt.memory import memory_for
from orz_ckpt.quoting import brief
from orz_ckpt.tensors.dtypes import DTYPE_BITS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from orz_ckpt.formats.alike import Alike

_SMALL_BYTES: Final = 64
_READ_AT_ONCE: Final = 1024 * 1024
"""Bytes of a file that is read into memory first."""


class NotTorchError(FormatError):
    """A file is a sound pickle, but not one of torch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TorchFile:
    """What a file holds."""

    path: Path
    value: object
    """Dictionaries, lists, tuples (`torch.Size` too), sets, texts, numbers, None, bytes; `Block` for each tensor and
    parameter, `Inert` for any other object, `Global` for a name such as a dtype. Plain recursion can walk it."""
    records: tuple[Record, ...]
    """Of the archive, in file order; empty for the older container."""
    globals: frozenset[str]
    """The names that its pickle mentions."""
    stem: str = ""
    """The folder of its records: the name that torch gave the file, without its ending, whatever it is called now.
    `archive` where torch wrote to a stream; empty for the older container."""


def load(
    path: Path,
    *,
    inert: frozenset[str] = frozenset(),
    offset: int = 0,
    nbytes: int | None = None,
    limits: Limits = LIMITS,
    alike: Alike | None = None,
) -> TorchFile:
    """Read what a file of `torch.save` says; no storage is read, and nothing of it is run.

    Args:
        path: the file.
        inert: names that its pickle may call beside the known ones; they become `Inert`.
        offset: where the file begins inside a larger one (`.distcp`). Offsets of blocks and records always count from
            the start of the file on disk.
        nbytes: how long it is there; up to the end where None.
        limits: how much its pickle may hold.
        alike: spares most of the work where the file that was read before with it says the same.

    Raises:
        FormatError: it is no such file, is damaged, or exceeds the limits.
        NotTorchError: it is a sound pickle of something else; a FormatError, too.
        UnsupportedTensorError: it holds a sparse, quantised, nested or lazily negated tensor; a FormatError, too.
        HostileError: its pickle calls what is not known to only hold data, or a record's name leads out of it.
        OSError: it cannot be read.
    """
    try:
        with memory_for(path), open_plain(path) as file:
            stream = _in_memory(file)
            return _load(stream, path, _place(stream, offset, nbytes), inert, limits, alike)
    except NotPlainError as error:
        raise FormatError(error.message, remedy="give the path of a file that torch saved") from None
    except OtherPickleError as error:
        raise NotTorchError(f"{path}: not a torch file: {error}", remedy="give a file of `torch.save`") from None
    except BadPickleError as error:
        remedy = "copy or save the file again"
        raise FormatError(f"{path}: not a sound torch file: {error}", remedy=remedy) from None
    except UnsupportedTensorError as error:
        remedy = error.remedy or "load it with torch, and save its tensors dense and unquantised"
        raise UnsupportedTensorError(f"{path}: {error.message}", remedy=remedy) from None
    except UnsafeRecordError:
        raise
    except HostileError as error:
        raise HostileError(f"{path}: {error.message}", remedy=error.remedy) from None


def _in_memory(stream: BinaryIO) -> BinaryIO:
    """Return a small file read at once: an archive is read at several places for each of its records."""
    if stream.seek(0, 2) > _READ_AT_ONCE:
        return stream
    stream.seek(0)
    return BytesIO(stream.read(_READ_AT_ONCE))


def _place(stream: BinaryIO, offset: int, nbytes: int | None) -> range:
    """Return which bytes of the file are asked for."""
    file_bytes = stream.seek(0, 2)
    if not file_bytes:
        raise BadPickleError("it is empty; the disk was probably full when it was saved")
    end = file_bytes if nbytes is None else offset + nbytes
    if not 0 <= offset < end <= file_bytes:
        raise BadPickleError(f"bytes {offset:,}-{end:,} are asked for, and it has {file_bytes:,}")
    return range(offset, end)


def _load(
    stream: BinaryIO, path: Path, place: range, inert: frozenset[str], limits: Limits, alike: Alike | None
) -> TorchFile:
    stream.seek(place.start)
    if stream.read(min(len(place), len(SIGNATURE))) == SIGNATURE:
        return _Archive(stream, path, place, inert, limits, alike).load()
    content = legacy_torch.load(stream, path, place, inert=inert, limits=limits)
    return TorchFile(path=path, value=content.value, records=(), globals=content.globals)


def checksums_off(stream: BinaryIO, records: tuple[Record, ...]) -> bool:
    """Return whether an archive was written without checksums (`torch.serialization.set_crc32_options(False)`).

    It then states 0 for each record. One wrong checksum among right ones is damage.
    """
    small = [record for record in records if 0 < record.nbytes <= _SMALL_BYTES]
    return all(zlib.crc32(_content(stream, record)) != record.crc32 for record in small)


class _Archive:
    """Reads one archive."""

    def __init__(
        self,
        stream: BinaryIO,
        path: Path,
        place: range,
        inert: frozenset[str],
        limits: Limits,
        alike: Alike | None,
    ) -> None:
        self._stream, self._path, self._inert, self._limits = stream, path, inert, limits
        self._alike = alike
        self._records = read_records(stream, source=str(path), offset=place.start, nbytes=len(place))
        self._rebuilder = Rebuilder(path, len(place))
        self._storages: dict[tuple[str, str], Storage] = {}

    def load(self) -> TorchFile:
        by_name = self._by_name()
        order = by_name.get("byteorder")
        if order and self._read(order, _SMALL_BYTES) != b"little":
            raise BadPickleError("its numbers are big-endian, which this reader does not turn around")
        program = by_name["data.pkl"]
        data = self._read(program, self._limits.pickle_bytes)
        if zlib.crc32(data) != program.crc32 and not checksums_off(self._stream, self._records):
            raise BadPickleError(f"the checksum of {brief(program.name)} is wrong: the file was damaged")
        key = key_of(data, by_name, self._inert, self._limits) if self._alike else None
        said = self._alike.find(key, self._path) if self._alike and key else None
        if said is None:
            said = load_pickle(
                data,
                calls=self._rebuilder.calls,
                persistent=lambda identity: self._storage(identity, by_name),
                inert=self._inert,
                limits=self._limits,
            )
            if said.nbytes != len(data):
                raise BadPickleError(f"{len(data) - said.nbytes:,} bytes follow the end of {brief(program.name)}")
            if self._alike and key:
                self._alike.keep(key, said, self._path)
        stem = program.name.partition("/")[0]
        return TorchFile(path=self._path, value=said.value, records=self._records, globals=said.globals, stem=stem)

    def _by_name(self) -> dict[str, Record]:
        """Return the records by their place in the folder that all of them lie in."""
        stems = {record.name.partition("/")[0] for record in self._records}
        if len(stems) != 1:
            raise BadPickleError("it is an archive, and none that torch wrote: its records lie in no common folder")
        by_name = {record.name.partition("/")[2]: record for record in self._records}
        if "constants.pkl" in by_name:
            raise BadPickleError("it is a TorchScript program, not a file of weights")
        if "data.pkl" not in by_name:
            raise BadPickleError("it is an archive, and none that torch wrote: it has no data.pkl")
        return by_name

    def _storage(self, identity: object, by_name: Mapping[str, Record]) -> Storage:
        """Return the storage that a persistent id names: ("storage", type, key, location, number of elements)."""
        match identity:
            case ("storage", kind, str(key), _, int(numel)):
                dtype = storage_dtype(kind)
            case _:
                raise BadPickleError("a reference to something that is no storage")
        if (key, dtype) in self._storages:
            return self._storages[key, dtype]
        record = by_name.get(f"data/{key}")
        if record is None:
            raise BadPickleError(f"storage {brief(key)} is not in the archive")
        itemsize = DTYPE_BITS[dtype] // 8
        if numel != record.nbytes // itemsize:
            raise BadPickleError(f"storage {brief(key)} has {record.nbytes:,} bytes, and should hold {numel:,} {dtype}")
        storage = Storage(key=key, dtype=dtype, numel=numel, offset=record.offset, nbytes=record.nbytes)
        self._storages[key, dtype] = storage
        return storage

    def _read(self, record: Record, limit: int) -> bytes:
        if record.nbytes > limit:
            raise BadPickleError(f"{brief(record.name)} has {record.nbytes:,} bytes; {limit:,} are allowed")
        return _content(self._stream, record)


def _content(stream: BinaryIO, record: Record) -> bytes:
    stream.seek(record.offset)
    data = stream.read(record.nbytes)
    if len(data) != record.nbytes:
        raise BadPickleError("it became shorter while it was read")
    return data
