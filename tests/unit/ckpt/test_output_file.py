"""A file written by several threads, past the page cache or through it: the same bytes, and errors as they come."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from orz_ckpt.disk.direct import ALIGNMENT
from orz_ckpt.disk.mounts import Mount
from orz_ckpt.merge import output_file
from orz_ckpt.merge.output_file import OutputFile
from orz_ckpt.tensors.buffers import aligned

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.unit

CHUNK = 16 * ALIGNMENT
HEADER = 100
SIZE = 5 * CHUNK + 777
DISK = Mount(point="/", root="/", fstype="ext4", source="/dev/sda", options=("rw",))


@pytest.fixture
def flusher() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.fixture(autouse=True)
def _any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output_file, "_LEAST_BYTES", 0)


def written(path: Path, flusher: ThreadPoolExecutor) -> bytes:
    """Write a file in chunks at multiples of `CHUNK`, the last ones first, and return what it should hold."""
    data = np.random.default_rng(0).bytes(SIZE)
    file = OutputFile(path, SIZE, flusher)
    file.write(memoryview(data[:HEADER]), 0)
    for begin in reversed(range(0, SIZE, CHUNK)):
        begin, end = max(begin, HEADER), min(begin // CHUNK * CHUNK + CHUNK, SIZE)  # noqa: PLW2901
        buffer = aligned(CHUNK)
        buffer[: end - begin] = data[begin:end]
        file.write(buffer[: end - begin], begin)
        file.begin_to_flush(end)
    file.finish()
    return data


def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Note offset and number of bytes of every write that is given to a file system."""
    noted: list[tuple[int, int]] = []
    real = os.pwrite

    def pwrite(descriptor: int, data: memoryview, offset: int) -> int:
        noted.append((offset, len(data)))
        return real(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    return noted


def test_the_bytes_are_those_given(tmp_path: Path, flusher: ThreadPoolExecutor) -> None:
    """Wherever the temporary folder lies: whole blocks, a head and a tail that are none, in any order."""
    assert written(tmp_path / "x", flusher) == (tmp_path / "x").read_bytes()


def test_whole_blocks_go_past_the_cache(
    tmp_path: Path, flusher: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What begins at a multiple of a block is cut at the last one; head and tail are written otherwise."""
    monkeypatch.setattr(output_file, "find_mount", lambda _: DISK)
    monkeypatch.setattr(output_file, "_open_direct", lambda path: os.open(path, os.O_WRONLY))
    noted = calls(monkeypatch)

    assert written(tmp_path / "x", flusher) == (tmp_path / "x").read_bytes()
    tail = SIZE % ALIGNMENT
    assert [(0, HEADER), (SIZE - tail, tail)] == sorted(noted)[:1] + sorted(noted)[-1:]
    assert [(HEADER, CHUNK - HEADER)] == [call for call in noted if call[0] % ALIGNMENT]
    assert [CHUNK] * 4 == [nbytes for offset, nbytes in sorted(noted) if CHUNK <= offset < 5 * CHUNK]


@pytest.mark.parametrize("fails_after", [0, 2])
def test_refused_past_the_cache(
    tmp_path: Path, flusher: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch, fails_after: int
) -> None:
    """A file system that takes the flag and not the write, or only a part, gets the rest through the cache."""
    direct: list[int] = []
    real = os.pwrite

    def pwrite(descriptor: int, data: memoryview, offset: int) -> int:
        if descriptor not in direct:
            return real(descriptor, data, offset)
        if fails_after == 0:
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(descriptor, data[:fails_after], offset)

    def open_direct(path: Path) -> int:
        direct.append(os.open(path, os.O_WRONLY))
        return direct[0]

    monkeypatch.setattr(output_file, "_open_direct", open_direct)
    monkeypatch.setattr(os, "pwrite", pwrite)

    assert written(tmp_path / "x", flusher) == (tmp_path / "x").read_bytes()


def test_a_full_disk_is_said(tmp_path: Path, flusher: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any other error is the caller's, and the file can be closed."""
    monkeypatch.setattr(output_file, "_open_direct", lambda path: os.open(path, os.O_WRONLY))
    file = OutputFile(tmp_path / "x", SIZE, flusher)

    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space left"):
        file.write(aligned(CHUNK), 0)
    file.close()
    file.close()


@pytest.mark.parametrize("fstype", ["nfs4", "tmpfs", "fuse.sshfs"])
def test_networks_and_memory(fstype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There a write past the cache is slower, or there is nothing to go past."""
    (tmp_path / "x").touch()
    monkeypatch.setattr(output_file, "find_mount", lambda _: replace(DISK, fstype=fstype))

    assert -1 == output_file._open_direct(tmp_path / "x")
