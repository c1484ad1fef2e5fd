"""The archive reader: it takes what torch writes, and no archive that two readers could understand differently."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from orz_ckpt.errors import FormatError, HostileError
from orz_ckpt.formats import archive
from orz_ckpt.formats.archive import Record, read_records
from orz_cli.exits import ExitCode

pytestmark = pytest.mark.unit

UTF_8, DESCRIPTOR, ENCRYPTED = 0x800, 0x008, 0x001


@dataclass(frozen=True)
class File:
    """One record, and what to write otherwise than a sound writer would; None leaves a field right."""

    name: bytes = b"m/data.pkl"
    data: bytes = b"hello"
    flags: int = UTF_8 | DESCRIPTOR
    method: int = 0
    local_name: bytes | None = None
    local_flags: int | None = None
    local_crc: int = 0
    local_size: int = 0
    padding: bytes = struct.pack("<HH", 0x4246, 3) + b"ZZZ"
    descriptor: bytes | None = None
    crc: int | None = None
    size: int | None = None
    packed_size: int | None = None
    offset: int | None = None
    disk: int = 0
    extra: bytes = b""
    comment: bytes = b""
    junk: bytes = b""
    made_by: int = 0
    needed: int = 0
    local_needed: int | None = None
    modified: tuple[int, int] = (0, 0)
    local_modified: tuple[int, int] | None = None
    internal: int = 0
    external: int = 0


@dataclass(frozen=True)
class Zip:
    """An archive with a ZIP64 end record, laid out as torch does."""

    files: tuple[File, ...] = (File(), File(name=b"m/data/0", data=b"12345678"))
    end: dict[str, int] = field(default_factory=dict)
    comment: bytes = b""
    before_end: bytes = b""
    after: bytes = b""
    large: bool = True
    versions: tuple[int, int] = (0x031E, 45)

    def build(self) -> bytes:
        body, directory = bytearray(), bytearray()
        for file in self.files:
            begin, crc, size = len(body), zlib.crc32(file.data), len(file.data)
            name = file.name if file.local_name is None else file.local_name
            flags = file.flags if file.local_flags is None else file.local_flags
            sizes = (file.local_size, file.local_size)
            body += struct.pack(
                "<4sHHHHHIIIHH",
                b"PK\3\4",
                file.needed if file.local_needed is None else file.local_needed,
                flags,
                file.method,
                *(file.modified if file.local_modified is None else file.local_modified),
                file.local_crc,
                *sizes,
                len(name),
                len(file.padding),
            )
            body += name + file.padding + file.data
            packed = size if file.packed_size is None else file.packed_size
            stated = (crc if file.crc is None else file.crc, packed, size if file.size is None else file.size)
            if file.flags & DESCRIPTOR:
                body += (
                    struct.pack("<4sIII", b"PK\7\x08", stated[0], size, size)
                    if file.descriptor is None
                    else file.descriptor
                )
            body += file.junk
            offset = begin if file.offset is None else file.offset
            before = (file.made_by, file.needed, file.flags, file.method, *file.modified)
            directory += struct.pack("<4sHHHHHHIII", b"PK\1\2", *before, *stated)
            lengths = (len(file.name), len(file.extra), len(file.comment))
            directory += struct.pack("<HHHHHII", *lengths, file.disk, file.internal, file.external, offset)
            directory += file.name + file.extra + file.comment
        end = {"disk": 0, "first_disk": 0, "here": len(self.files), "count": len(self.files), "nbytes": len(directory)}
        end |= {"begin": len(body)} | self.end
        data = bytes(body + directory) + self.before_end
        if self.large:
            head = struct.pack("<4sQHHII", b"PK\6\6", 44, *self.versions, end["disk"], end["first_disk"])
            numbers = struct.pack("<QQQQ", end["here"], end["count"], end["nbytes"], end["begin"])
            data += head + numbers + struct.pack("<4sIQI", b"PK\6\7", 0, len(data), 1)
        values = (end["disk"], end["first_disk"], end["here"], end["count"], end["nbytes"], end["begin"])
        return data + struct.pack("<4sHHHHIIH", b"PK\5\6", *values, len(self.comment)) + self.comment + self.after


def read(data: bytes) -> tuple[Record, ...]:
    return read_records(io.BytesIO(data))


def one(**changes: Any) -> bytes:
    """Return an archive of two records of which the second is changed."""
    first, second = Zip().files
    return Zip(files=(first, replace(second, **changes))).build()


def test_records_are_where_their_bytes_are() -> None:
    """Name, place, length and checksum of each record, in file order."""
    data = Zip().build()
    records = read(data)

    assert [("m/data.pkl", 5), ("m/data/0", 8)] == [(record.name, record.nbytes) for record in records]
    assert [b"hello", b"12345678"] == [data[record.offset : record.end] for record in records]
    assert [zlib.crc32(b"hello"), zlib.crc32(b"12345678")] == [record.crc32 for record in records]


def test_archive_of_the_standard_library() -> None:
    """A stored archive that Python wrote, with sizes in its local headers and no ZIP64 record, is read, too."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as written:
        written.writestr("m/data.pkl", b"hello")
        written.writestr("m/data/0", b"")

    assert [("m/data.pkl", 5), ("m/data/0", 0)] == [(record.name, record.nbytes) for record in read_records(stream)]


class NotSeekable(io.RawIOBase):
    """A stream to which an archive is written from its first byte to its last."""

    def __init__(self, stream: io.BytesIO) -> None:
        self._stream = stream

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return self._stream.write(data)


@pytest.mark.parametrize("seekable", [True, False])
@pytest.mark.parametrize("large", [True, False])
@pytest.mark.parametrize("stem", ["m", "mod\N{LATIN SMALL LETTER E WITH GRAVE}le"])
@pytest.mark.parametrize("like_torch", [True, False])
def test_archive_that_was_packed_again(seekable: bool, large: bool, stem: str, like_torch: bool) -> None:
    """What `zipfile` stores is read however it writes: sizes behind the content, as ZIP64, times as torch has them."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream if seekable else NotSeekable(stream), "w") as written:
        for name, data in (("data.pkl", b"hello"), ("data/0", b"")):
            entry = zipfile.ZipInfo(f"{stem}/{name}")
            if like_torch:
                entry.date_time, entry.create_system, entry.create_version, entry.extract_version = (
                    (1980, 0, 0, 0, 0, 0),
                    0,
                    0,
                    0,
                )
            with written.open(entry, "w", force_zip64=large) as record:
                record.write(data)

    assert [5, 0] == [record.nbytes for record in read_records(stream)]


@pytest.mark.parametrize(
    "changes",
    [
        {"made_by": 1},
        {"local_needed": 1},
        {"modified": (1, 0)},
        {"modified": (0, 33)},
        {"local_modified": (1, 0)},
        {"local_modified": (0, 33)},
        {"internal": 1},
        {"external": 0o600 << 16},
        {"padding": b""},
        {"padding": struct.pack("<HH", 0x4246, 3) + b"ZZ["},
        {"padding": struct.pack("<HH", 0x5455, 3) + b"ZZZ"},
        {"local_size": 0xFFFF_FFFF, "padding": struct.pack("<HHQQHH", 1, 16, 8, 9, 0x4246, 0)},
    ],
)
def test_field_that_torch_writes_in_one_way(changes: dict[str, Any]) -> None:
    """What says nothing of the content, and is not as torch leaves it."""
    with pytest.raises(FormatError, match="than it was written with"):
        read(one(**changes))


@pytest.mark.parametrize("versions", [(0x031F, 45), (0x031E, 44), (45, 45)])
def test_versions_of_the_end(versions: tuple[int, int]) -> None:
    """The ZIP64 end record of torch has two versions, and no others."""
    with pytest.raises(FormatError, match="version"):
        read(Zip(versions=versions).build())


def test_archive_inside_a_file() -> None:
    """An archive embedded in a larger file is read alone; places are counted from the start of that file."""
    data = Zip().build()
    records = read_records(io.BytesIO(b"#" * 100 + data + b"#" * 50), offset=100, nbytes=len(data))

    assert [record.offset + 100 for record in read(data)] == [record.offset for record in records]


@pytest.mark.parametrize(("offset", "nbytes"), [(-1, 10), (0, 10**30), (10**30, None), (0, -1), (0, 0), (5, None)])
def test_archive_that_is_not_at_the_place(offset: int, nbytes: int | None) -> None:
    """A place outside the file, or one that holds no archive, is an error."""
    with pytest.raises(FormatError):
        read_records(io.BytesIO(Zip().build()), offset=offset, nbytes=nbytes)


def test_large_record_in_the_directory() -> None:
    """Sizes and places that 32 bits do not hold are taken from the ZIP64 field, which must then be whole."""
    size = Zip().files[1]
    wide = struct.pack("<HHQQ", 1, 16, len(size.data), len(size.data))
    sound = one(size=0xFFFF_FFFF, packed_size=0xFFFF_FFFF, extra=wide)

    assert 8 == read(sound)[1].nbytes
    for extra in (b"", struct.pack("<HHQ", 1, 8, 8), struct.pack("<HHQQQ", 1, 24, 8, 8, 0), wide[:-1]):
        with pytest.raises(FormatError):
            read(one(size=0xFFFF_FFFF, packed_size=0xFFFF_FFFF, extra=extra))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"method": 8}, "compressed"),
        ({"flags": UTF_8 | ENCRYPTED}, "encrypted"),
        ({"comment": b"x"}, "commented"),
        ({"disk": 1}, "another disk"),
        ({"packed_size": 4}, "two sizes"),
        ({"size": 9, "packed_size": 9}, "descriptor"),
        ({"size": 10**6, "packed_size": 10**6}, "another header"),
        ({"crc": 1, "descriptor": struct.pack("<4sIII", b"PK\7\x08", 2, 8, 8)}, "descriptor"),
        ({"descriptor": b""}, "descriptor"),
        ({"local_name": b"m/data/1"}, "another header"),
        ({"local_name": b"m/data/10"}, "another header"),
        ({"local_flags": UTF_8}, "another header"),
        ({"local_size": 7}, "another header"),
        ({"local_crc": 7}, "another header"),
        ({"padding": b"\x46\x42\xff\xff"}, "extra field"),
        ({"padding": b"\x46"}, "extra field"),
        ({"offset": 0}, "overlaps"),
        ({"offset": 10**6}, "hole"),
        ({"junk": b"x"}, "belong to no record"),
        ({"extra": struct.pack("<HH", 0x7075, 0)}, "extra field"),
        ({"extra": struct.pack("<HHHH", 0x5455, 0, 0x5455, 0)}, "extra field"),
        ({"name": b"m/data.pkl"}, "same name"),
        ({"name": b"m/\xff"}, "UTF-8"),
        ({"name": b"m//0"}, "torch would not write"),
        ({"name": b"m/./0"}, "torch would not write"),
        ({"name": b"m/"}, "torch would not write"),
        ({"name": b""}, "torch would not write"),
        ({"name": b"m/\x1b[2J"}, "torch would not write"),
        ({"name": b"m/\0"}, "torch would not write"),
    ],
)
def test_record_that_breaks_a_rule(changes: dict[str, Any], says: str) -> None:
    """One rule broken by one record, and the error says which."""
    with pytest.raises(FormatError, match=says):
        read(one(**changes))


@pytest.mark.parametrize("name", [b"../x", b"m/../../x", b"/etc/passwd", b"m\\..\\x", b".."])
def test_name_that_escapes(name: bytes) -> None:
    """A name that leads out of the archive is refused as hostile."""
    with pytest.raises(HostileError, match="leads out") as caught:
        read(one(name=name))

    assert ExitCode.REFUSED is caught.value.exit_code


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"comment": b"x"}, "cut off or added to"),
        ({"after": b"x"}, "cut off or added to"),
        ({"before_end": b"x"}, "directory"),
        ({"end": {"disk": 1}}, "disks"),
        ({"end": {"first_disk": 1}}, "disks"),
        ({"end": {"here": 1}}, "disks"),
        ({"end": {"count": 1, "here": 1}}, "more than its records"),
        ({"end": {"count": 3, "here": 3}}, "directory"),
        ({"end": {"begin": 0}}, "directory"),
        ({"end": {"nbytes": 0}}, "directory"),
    ],
)
@pytest.mark.parametrize("large", [True, False])
def test_end_that_breaks_a_rule(changes: dict[str, Any], says: str, large: bool) -> None:
    """One rule broken by the end records, with ZIP64 and without."""
    with pytest.raises(FormatError, match=says):
        read(Zip(**changes, large=large).build())


def test_archive_of_nothing() -> None:
    """An archive without records is sound; whoever needs a record misses it."""
    assert () == read(Zip(files=()).build())


def test_two_ends_that_disagree() -> None:
    """The ZIP64 end record and the old one must not lead to two directories."""
    data = bytearray(Zip().build())
    data[-22 + 16 : -22 + 20] = struct.pack("<I", 1)
    with pytest.raises(FormatError, match="disagree"):
        read(bytes(data))


@pytest.mark.parametrize(
    ("place", "value"), [(-42 + 4, 1), (-42 + 8, 1), (-42 + 16, 2), (-98 + 4, 45), (-98, 0), (-98 + 16, 1)]
)
def test_zip64_end_that_is_wrong(place: int, value: int) -> None:
    """Disk, place and number of disks in the locator; signature, length and disk in the ZIP64 end record."""
    data = bytearray(Zip().build())
    data[place] = value
    with pytest.raises(FormatError):
        read(bytes(data))


def test_too_many_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """More records than a checkpoint has are refused before they are read."""
    monkeypatch.setattr(archive, "MAX_RECORDS", 1)
    with pytest.raises(FormatError, match="no checkpoint has"):
        read(Zip().build())


def test_record_without_a_checksum() -> None:
    """A writer may leave checksums out; they are then 0, and the archive is sound."""
    assert (0, 0) == tuple(record.crc32 for record in read(Zip(files=(File(crc=0), File(name=b"m/0", crc=0))).build()))


@pytest.mark.parametrize("data", [b"", b"PK", b"\0" * 100, b"PK\5\6", b"hello" * 20])
def test_no_archive(data: bytes) -> None:
    """Anything else is an error, and never an empty archive."""
    with pytest.raises(FormatError):
        read(data)
