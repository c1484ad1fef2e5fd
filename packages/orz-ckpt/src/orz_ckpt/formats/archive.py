"""The ZIP archive that `torch.save` writes: which records it holds, and where their bytes lie.

torch writes every record stored, with a data descriptor behind it, padding in the extra field of its local header,
and a ZIP64 end record: `caffe2/serialize/inline_container.cc` and `third_party/miniz` of torch 2.13. The layout is that
of PKWARE's APPNOTE 6.3.10, sections 4.3 to 4.5.

Two readers of one ambiguous archive can see different files. So this one takes no archive with anything in it that a
writer of checkpoints has no use for: records cover the archive from its first byte to the central directory, both
headers of a record agree, nothing is compressed, encrypted, commented or spread over disks.

And a bit that flipped should not go unseen. So of an archive that torch wrote every byte has one right value, and is
compared with it: those of records by their checksums (`orz_ckpt.checks.checksums`), all others here, also the padding,
and the versions, times and attributes that say nothing (`archive_fields`, where the rules of both kinds of archives
are). Of one that another program wrote, such as one that Python's `zipfile` packed again, those bytes alone may be
anything that no reader of weights reads: times and permissions, owners, who wrote it, and whether it is text.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple

from orz_ckpt.errors import EscapeError, FormatError
from orz_ckpt.formats.archive_fields import (
    HARMLESS_FIELDS,
    HAS_DESCRIPTOR,
    UTF_8,
    ZIP64_FIELD,
    Fields,
    strange_end,
    strange_extra,
    strange_record,
)
from orz_ckpt.quoting import brief

if TYPE_CHECKING:
    from collections.abc import Iterator

SIGNATURE: Final = b"PK\x03\x04"
MAX_RECORDS: Final = 200_000
MAX_DIRECTORY_BYTES: Final = 32 * 1024 * 1024

_LOCAL: Final = struct.Struct("<4sHHHHHIIIHH")
_CENTRAL: Final = struct.Struct("<4sHHHHHHIIIHHHHHII")
_END: Final = struct.Struct("<4sHHHHIIH")
_END_64: Final = struct.Struct("<4sQHHIIQQQQ")
_LOCATOR_64: Final = struct.Struct("<4sIQI")
_DESCRIPTOR: Final = struct.Struct("<4sIII")
_DESCRIPTOR_64: Final = struct.Struct("<4sIQQ")
_FIELD: Final = struct.Struct("<HH")

_FULL_16: Final = 0xFFFF
_FULL_32: Final = 0xFFFF_FFFF


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One file of an archive. Example: `Record(name="model/data/0", offset=704, nbytes=24, crc32=0x91E79017)`."""

    name: str
    offset: int
    """First byte of its content, from the start of the file that holds the archive."""
    nbytes: int
    crc32: int
    """As the central directory says; 0 where the writer was told not to compute it."""

    @property
    def end(self) -> int:
        """The byte after its last one."""
        return self.offset + self.nbytes


def read_records(
    stream: BinaryIO, *, source: str = "file", offset: int = 0, nbytes: int | None = None
) -> tuple[Record, ...]:
    """Read and check the directory of an archive; no content is read.

    Args:
        stream: an open file that can seek.
        source: what an error message begins with.
        offset: first byte of the archive in the file.
        nbytes: its length; up to the end of the file where None.

    Returns:
        The records in file order.

    Raises:
        FormatError: it is cut off, ambiguous or no stored ZIP archive.
        UnsafeRecordError: the name of a record leads out of the archive.
    """
    file_bytes = stream.seek(0, 2)
    length = file_bytes - offset if nbytes is None else nbytes
    try:
        return _Reader(stream, range(offset, offset + length), file_bytes).records()
    except _BrokenRuleError as error:
        remedy = "copy or save the file again"
        raise FormatError(f"{source}: not a sound archive of torch: {error}", remedy=remedy) from None
    except UnsafeRecordError as error:
        raise UnsafeRecordError(f"{source}: {error.message}", remedy="do not load or unpack this file") from None


class UnsafeRecordError(EscapeError):
    """The name of a record leads out of its archive."""


class _BrokenRuleError(ValueError):
    """A rule of the format that the archive breaks."""


class _Directory(NamedTuple):
    """Where the central directory is."""

    records: int
    nbytes: int
    begin: int
    versions: tuple[int, int] | None
    """Made by, and needed, of the ZIP64 end record; None where there is none."""


class _Entry(NamedTuple):
    """A record as the central directory describes it."""

    name: bytes
    fields: Fields
    crc32: int
    nbytes: int
    header: int
    """First byte of its local header in the archive."""


class _Reader:
    """Reads one archive; all places are counted from its first byte."""

    def __init__(self, stream: BinaryIO, place: range, file_bytes: int) -> None:
        if place.start < 0 or place.stop < place.start or place.stop > file_bytes:
            raise _BrokenRuleError(f"bytes {place.start:,}-{place.stop:,} lie outside it: it has {file_bytes:,}")
        self._stream, self._offset, self._length = stream, place.start, len(place)

    def records(self) -> tuple[Record, ...]:
        directory = self._directory()
        entries = sorted(self._entries(directory), key=lambda entry: entry.header)
        if len({entry.name for entry in entries}) != len(entries):
            raise _BrokenRuleError("two of its records have the same name")
        by_torch = all(entry.fields.of_torch(entry.nbytes) for entry in entries)
        strange = directory.versions and strange_end(*directory.versions, by_torch=by_torch)
        if strange:
            raise _BrokenRuleError(strange)
        records, position = [], 0
        for entry in entries:
            record, position = self._record(entry, position, directory.begin, by_torch=by_torch)
            records.append(record)
        if position != directory.begin:
            raise _BrokenRuleError(f"bytes {position:,}-{directory.begin:,} belong to no record")
        return tuple(records)

    def _directory(self) -> _Directory:
        """Find the central directory by the end records, which are the last bytes."""
        end = self._length - _END.size
        signature, (disk, first_disk, here, count, nbytes, begin, comment) = self._unpack(_END, end)
        if signature != b"PK\5\6" or comment:
            raise _BrokenRuleError("it does not end with the end record of an archive: it was cut off or added to")
        locator, versions = end - _LOCATOR_64.size, None
        if locator >= 0 and self._read(locator, 4) == b"PK\6\7":
            end, versions, large = self._directory_64(locator)
            small = ((here, _FULL_16), (count, _FULL_16), (nbytes, _FULL_32), (begin, _FULL_32))
            if any(value not in {full, wide} for (value, full), wide in zip(small, large, strict=True)):
                raise _BrokenRuleError("its two end records disagree")
            here, count, nbytes, begin = large
        if disk or first_disk or here != count:
            raise _BrokenRuleError("it is spread over several disks")
        if count > MAX_RECORDS or nbytes > MAX_DIRECTORY_BYTES:
            raise _BrokenRuleError(
                f"it states {count:,} records, {nbytes:,} bytes of directory: no checkpoint has them"
            )
        if begin + nbytes != end or count * _CENTRAL.size > nbytes:
            raise _BrokenRuleError(f"its directory of {count:,} records does not fill bytes {begin:,}-{end:,}")
        return _Directory(count, nbytes, begin, versions)

    def _directory_64(self, locator: int) -> tuple[int, tuple[int, int], tuple[int, int, int, int]]:
        """Return where the ZIP64 end record begins, its versions, and what it says."""
        _, (disk, end, disks) = self._unpack(_LOCATOR_64, locator)
        signature, numbers = self._unpack(_END_64, end)
        size, made_by, needed, this_disk, first_disk, here, count, nbytes, begin = numbers
        if signature != b"PK\6\6" or end + size + 12 != locator or size + 12 != _END_64.size:
            raise _BrokenRuleError("its ZIP64 end record is not where its locator says")
        if disk or this_disk or first_disk or disks != 1:
            raise _BrokenRuleError("it is spread over several disks")
        return end, (made_by, needed), (here, count, nbytes, begin)

    def _entries(self, directory: _Directory) -> Iterator[_Entry]:
        data, place = self._read(directory.begin, directory.nbytes), 0
        for _ in range(directory.records):
            if place + _CENTRAL.size > len(data):
                raise _BrokenRuleError("its directory is cut off")
            head = _CENTRAL.unpack_from(data, place)
            signature, made_by, needed, flags, method, time, date, crc32, packed, nbytes, *rest = head
            name_bytes, extra_bytes, comment_bytes, disk, internal, external, header = rest
            begin, place = place + _CENTRAL.size, place + _CENTRAL.size + name_bytes + extra_bytes + comment_bytes
            if signature != b"PK\1\2" or place > len(data):
                raise _BrokenRuleError("its directory is cut off")
            name, extra = data[begin : begin + name_bytes], data[begin + name_bytes : begin + name_bytes + extra_bytes]
            if method or flags & ~(HAS_DESCRIPTOR | UTF_8) or comment_bytes:
                raise _BrokenRuleError(
                    f"record {brief(name)} is compressed, encrypted or commented; torch does neither"
                )
            wide = _fields(extra, HARMLESS_FIELDS).get(ZIP64_FIELD, b"")
            nbytes, packed, header = _widened(wide, nbytes, packed, header)
            if packed != nbytes or disk:
                raise _BrokenRuleError(f"record {brief(name)} states two sizes, or another disk")
            fields = Fields(flags, made_by, needed, (time, date), internal, external)
            yield _Entry(name, fields, crc32, nbytes, header)
        if place != len(data):
            raise _BrokenRuleError("its directory holds more than its records")

    def _record(self, entry: _Entry, position: int, limit: int, *, by_torch: bool) -> tuple[Record, int]:
        """Check the local header of `entry`, which begins at `position`; return where the next one begins."""
        name = _checked_name(entry.name)
        if entry.header != position:
            kind = "overlaps the one before" if entry.header < position else "leaves a hole before it"
            raise _BrokenRuleError(f"record {brief(name)} {kind}: it begins at {entry.header:,}, expected {position:,}")
        head = _LOCAL.unpack(self._read(position, _LOCAL.size))
        signature, needed, flags, method, time, date, crc32, packed, nbytes, name_bytes, extra_bytes = head
        after = position + _LOCAL.size
        if signature != SIGNATURE or flags != entry.fields.flags or method or name_bytes != len(entry.name):
            raise _BrokenRuleError(f"record {brief(name)} has another header than the directory says")
        text = self._read(after, name_bytes + extra_bytes)
        extra = _fields(text[name_bytes:])
        begin = after + name_bytes + extra_bytes
        end = begin + entry.nbytes
        # What a descriptor follows may be left open here.
        open_here = not nbytes and flags & HAS_DESCRIPTOR
        same = (
            text[:name_bytes] == entry.name and packed == nbytes and (nbytes in {entry.nbytes, _FULL_32} or open_here)
        )
        if not same or not (crc32 == entry.crc32 or (not crc32 and flags & HAS_DESCRIPTOR)) or end > limit:
            raise _BrokenRuleError(f"record {brief(name)} has another header than the directory says")
        strange = strange_record(entry.fields, needed, (time, date), by_torch=by_torch)
        strange = strange or strange_extra(extra, entry.nbytes, position, by_torch=by_torch)
        if strange:
            raise _BrokenRuleError(f"record {brief(name)} has another header than it was written with: {strange}")
        record = Record(name=name, offset=self._offset + begin, nbytes=entry.nbytes, crc32=entry.crc32)
        return record, end + (self._descriptor(entry, end, limit) if flags & HAS_DESCRIPTOR else 0)

    def _descriptor(self, entry: _Entry, begin: int, limit: int) -> int:
        """Return the length of the data descriptor at `begin`, which repeats checksum and size."""
        data = self._read(begin, min(_DESCRIPTOR_64.size, limit - begin))
        stated = (b"PK\7\x08", entry.crc32, entry.nbytes, entry.nbytes)
        for layout in (_DESCRIPTOR_64, _DESCRIPTOR):
            if len(data) >= layout.size and layout.unpack_from(data) == stated:
                return layout.size
        raise _BrokenRuleError(f"record {brief(entry.name)} has another descriptor than the directory says")

    def _unpack(self, layout: struct.Struct, place: int) -> tuple[bytes, list[int]]:
        signature, *numbers = layout.unpack(self._read(place, layout.size))
        return signature, numbers

    def _read(self, place: int, nbytes: int) -> bytes:
        if place < 0 or place + nbytes > self._length:
            raise _BrokenRuleError(f"it has {self._length:,} bytes, and should have some at {place:,}")
        self._stream.seek(self._offset + place)
        data = self._stream.read(nbytes)
        if len(data) != nbytes:
            raise _BrokenRuleError("it became shorter while it was read")
        return data


def _fields(extra: bytes, known: frozenset[int] | None = None) -> dict[int, bytes]:
    """Return the fields of the extra part of a header by their kind."""
    found: dict[int, bytes] = {}
    place = 0
    while place < len(extra):
        if len(extra) - place < _FIELD.size:
            raise _BrokenRuleError("an extra field is cut off")
        kind, nbytes = _FIELD.unpack_from(extra, place)
        place += _FIELD.size
        data = extra[place : place + nbytes]
        place += nbytes
        if len(data) != nbytes or kind in found or (known is not None and kind not in known):
            raise _BrokenRuleError(f"an extra field of kind {kind:#06x} is cut off, repeated or not known here")
        found[kind] = data
    return found


def _widened(wide: bytes, *values: int) -> tuple[int, ...]:
    """Return `values` with those that 32 bits could not hold taken from the ZIP64 field, in its order."""
    if not wide and _FULL_32 not in values:
        return values
    result = []
    for value in values:
        if value == _FULL_32:
            if len(wide) < 8:  # noqa: PLR2004  a 64-bit number
                raise _BrokenRuleError("a ZIP64 field is missing or cut off")
            result.append(int.from_bytes(wide[:8], "little"))
            wide = wide[8:]
        else:
            result.append(value)
    if wide:
        raise _BrokenRuleError("a ZIP64 field states more than is asked for")
    return tuple(result)


def _checked_name(raw: bytes) -> str:
    try:
        name = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise _BrokenRuleError(f"the name of a record is not UTF-8: {brief(raw)}") from None
    parts = name.split("/")
    if ".." in parts or name.startswith("/") or "\\" in name:
        raise UnsafeRecordError(f"the name of a record leads out of the archive: {brief(name)}")
    if not name.isprintable() or not all(parts) or "." in parts:
        raise _BrokenRuleError(f"a record has a name that torch would not write: {brief(name)}")
    return name
