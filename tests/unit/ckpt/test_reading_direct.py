"""A file read past the page cache: the same bytes at any offset, and only where the file is not in memory."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from io import FileIO
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from blake3 import blake3

from orz_ckpt.disk import ahead, direct
from orz_ckpt.disk.ahead import read_ahead
from orz_ckpt.disk.direct import bypass_cache, read_direct
from orz_ckpt.disk.mounts import find_mount
from orz_ckpt.disk.reading import read_once
from orz_ckpt.disk.spans import spans
from orz_ckpt.disk.uncached import AT_ONCE_BYTES, UncachedFiles
from orz_ckpt.tensors.buffers import ALIGNMENT, aligned
from orz_ckpt.tensors.gather import ChangedError
from orz_ckpt.tensors.runs import Run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.unit

NBYTES = direct._LEAST_BYTES + 4321
"""Enough, and no multiple of anything that disks are read by."""


@pytest.fixture(scope="module")
def data() -> bytes:
    return np.random.default_rng(0).bytes(NBYTES)


@pytest.fixture
def path(data: bytes, tmp_path: Path) -> Path:
    (tmp_path / "file").write_bytes(data)
    return tmp_path / "file"


@pytest.fixture
def cold(path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same file, taken for one that is not in memory; skips where nothing can be read past the page cache."""
    monkeypatch.setattr(direct, "_mostly_cached", lambda *_: False)
    with FileIO(path) as stream:
        os.fsync(stream.fileno())
        if not bypass_cache(stream.fileno()):
            pytest.skip("the file system of the temporary folder has no reads past the page cache")
    return path


@pytest.mark.parametrize(
    ("offset", "nbytes", "expected"),
    [
        (0, ALIGNMENT, ALIGNMENT),
        (1, ALIGNMENT, ALIGNMENT),
        (ALIGNMENT - 1, 2, 2),
        (5 * ALIGNMENT + 8, 3, 3),
        (NBYTES - 10, 10, 10),
        (NBYTES - 10, 5000, 10),
        (NBYTES, 100, 0),
        (NBYTES + 3 * ALIGNMENT, 100, 0),
    ],
)
def test_any_offset(cold: Path, data: bytes, offset: int, nbytes: int, expected: int) -> None:
    """The bytes are those of the file from there on, and fewer where it ends."""
    buffer = aligned(nbytes + 2 * ALIGNMENT)
    with FileIO(cold) as stream:
        assert bypass_cache(stream.fileno())
        read = bytes(read_direct(stream.fileno(), buffer, offset, nbytes))

    assert (expected, data[offset : offset + nbytes]) == (len(read), read)


def test_pieces(cold: Path, data: bytes) -> None:
    """Pieces of odd lengths, read by several threads, are the file in order."""
    lengths = [100_003, 7, 64 * 1024] * (NBYTES // 165_546 + 1)
    with FileIO(cold) as stream, closing(read_ahead(stream, lengths, piece_bytes=128 * 1024)) as pieces:
        whole = b"".join(map(bytes, pieces))

    assert data == whole


@pytest.mark.parametrize(
    ("offset", "nbytes"), [(0, 1), (4095, 4098), (4096, 4096), (7, 3 * 1024 * 1024), (NBYTES - 5, 5)]
)
def test_pieces_of_any_place(cold: Path, data: bytes, offset: int, nbytes: int) -> None:
    """A reader of tensors gets its bytes, also where they are more than are read at once, and from several threads."""
    with UncachedFiles() as files, ThreadPoolExecutor(2) as pool:
        out = [memoryview(bytearray(nbytes)) for _ in range(4)]
        for done in [pool.submit(files.read_into, cold, into, offset) for into in out]:
            done.result()
        assert files._past_cache

    assert all(into == data[offset : offset + nbytes] for into in out)


@pytest.mark.parametrize("cached", [False, True])
def test_a_span_is_one_request(path: Path, data: bytes, cached: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A megabyte and a half of runs with gaps, beginning anywhere, is read by one call, gaps included."""
    monkeypatch.setattr(direct, "_mostly_cached", lambda *_: cached)
    runs = [
        Run(path, offset, "U8", 300_000, memoryview(bytearray(300_000)), "U8")
        for offset in range(12_345, 1_500_000, 300_100)
    ]
    calls: list[int] = []
    preadv = os.preadv

    def counted(*arguments: Any) -> int:
        calls.append(preadv(*arguments))
        return calls[-1]

    (span,) = spans(runs, AT_ONCE_BYTES)
    with UncachedFiles() as files:
        files.read_into(path, memoryview(bytearray(1)), 0)  # opens the file, and looks how it can be read
        monkeypatch.setattr(os, "preadv", counted)
        read = files.read_span(span)

    assert data[12_345 : 12_345 + 4 * 300_100 + 300_000] == read
    assert 1 == len(calls)
    assert len(read) <= calls[0] < len(read) + 2 * ALIGNMENT


def test_a_span_past_the_end(cold: Path) -> None:
    """A span of a file that became shorter is no span with old bytes in it."""
    runs = [Run(cold, NBYTES - 7, "U8", 10, memoryview(bytearray(10)), "U8")]
    with UncachedFiles() as files, pytest.raises(ChangedError, match=f"ends at byte {NBYTES:,}, expected 3 more"):
        files.read_span(next(spans(runs, AT_ONCE_BYTES)))


def test_past_the_end(cold: Path) -> None:
    """Who asks for more than there is hears where the file ends."""
    with UncachedFiles() as files, pytest.raises(ChangedError, match=f"ends at byte {NBYTES:,}, expected 3 more"):
        files.read_into(cold, memoryview(bytearray(10)), NBYTES - 7)


def test_one_digest_either_way(path: Path, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """How a file is read changes nothing of what is read."""
    expected = blake3(data).hexdigest()
    for cached in (True, False):
        monkeypatch.setattr(direct, "_mostly_cached", lambda *_, cached=cached: cached)
        reading = read_once(path)
        assert (NBYTES, expected) == (reading.size, reading.digest)


def test_what_is_in_memory_is_read_there(path: Path) -> None:
    """A file that was just written is in memory, and so it is copied from there."""
    with FileIO(path) as stream:
        assert not bypass_cache(stream.fileno())


def test_what_is_not_in_memory_is_read_past_the_cache(path: Path) -> None:
    """A file that the kernel was told to drop; what is still on its way to the disk is dropped a moment later."""
    for _ in range(50):
        with FileIO(path) as stream:
            os.fsync(stream.fileno())
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            if bypass_cache(stream.fileno()):
                return
        time.sleep(0.1)
    mount = find_mount(path)
    assert mount is not None
    assert mount.in_memory or mount.network, f"{mount} was never read past the cache"


def test_small_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small file is not looked for in memory at all."""
    (tmp_path / "small").write_bytes(bytes(1000))
    monkeypatch.setattr(direct, "_mostly_cached", pytest.fail)
    with FileIO(tmp_path / "small") as stream:
        assert not bypass_cache(stream.fileno())


def test_file_systems_without(path: Path, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where such a read is refused, the file is read as any other, from its first byte."""
    monkeypatch.setattr(direct, "_mostly_cached", lambda *_: False)

    def refuses(*_: object) -> int:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "preadv", refuses)
    with FileIO(path) as stream, closing(read_ahead(stream, [NBYTES, 1], piece_bytes=NBYTES)) as pieces:
        assert [data, b""] == [bytes(piece) for piece in pieces]


def test_where_nobody_can_say(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that cannot say what is in memory, such as a network's, is read as ever."""

    def cannot_say(*_: object) -> int:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "preadv", cannot_say)
    with FileIO(path) as stream:
        assert not bypass_cache(stream.fileno())
        assert ahead._way_to_read(stream, 1)[1] == 1
