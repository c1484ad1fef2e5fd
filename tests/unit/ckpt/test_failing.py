"""Whose fault a failed write is, and what is said of the disk."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from orz_ckpt import failing
from orz_ckpt.errors import StorageError, StorageFullError
from orz_ckpt.failing import explained, with_need

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.unit


@pytest.fixture
def staged(tmp_path: Path) -> Path:
    """A folder in flight with 6 bytes in it."""
    folder = tmp_path / "step_000001.tmp-a"
    folder.mkdir()
    (folder / "x").write_bytes(b"123456")
    return folder


def said_of(error: Exception, staged: Path) -> StorageError:
    with pytest.raises(StorageError) as caught, explained(staged):
        raise error
    assert error is caught.value.__cause__
    return caught.value


def in_words(number: int) -> str:
    return f"{os.strerror(number)} (os error {number})"


@pytest.mark.parametrize("name", ["EIO", "ESTALE", "ETIMEDOUT", "EROFS", "EACCES"])
@pytest.mark.parametrize("in_rust", [False, True])
def test_a_number_of_the_system_s(name: str, in_rust: bool, staged: Path) -> None:
    """A disk that breaks or refuses is known by its number, also in the words of a writer in Rust."""
    number = getattr(errno, name)
    error = said_of(RuntimeError(f"I/O error: {in_words(number)}") if in_rust else OSError(number, "so"), staged)

    assert not isinstance(error, StorageFullError)
    assert f"{name}: " in error.message
    assert "that the disk is in order" in error.remedy


def test_the_file_and_the_disk_are_named(staged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The place as readers will see it, the file in it, what is there and what is free, and on which file system."""
    mounts = "1 0 0:1 / / rw - rootfs rootfs rw\n" + f"2 1 0:2 / {staged.parent} rw - nfs4 nas:/runs rw\n"
    (staged.parent / "mountinfo").write_text(mounts, encoding="utf-8")
    monkeypatch.setattr("orz_ckpt.disk.mounts.MOUNTINFO", staged.parent / "mountinfo")
    monkeypatch.setattr(failing, "free_bytes", lambda folder: 1_234_567_890)
    monkeypatch.setattr("platform.node", lambda: "n1")
    error = said_of(OSError(errno.EDQUOT, "Disk quota exceeded", str(staged / "state" / "a.pt")), staged)

    assert (
        f"{staged.parent / 'step_000001'} was not saved on n1: EDQUOT: Disk quota exceeded: state/a.pt."
        f" 6 bytes had been written, 1,234,567,890 are free on nfs4 from nas:/runs at {staged.parent};"
        " older checkpoints are as they were"
    ) == error.message
    assert isinstance(error, StorageFullError)
    assert (6, 1_234_567_890) == (error.needed_bytes, error.free_bytes)


def test_a_folder_that_went_away(staged: Path) -> None:
    """No such file: a mistake while the folder is there, the disk's fault when it is gone."""
    missing = FileNotFoundError(errno.ENOENT, "No such file or directory")
    with pytest.raises(FileNotFoundError) as caught, explained(staged):
        raise missing
    assert missing is caught.value

    staged.rename(staged.with_name("away"))
    assert "ENOENT: No such file or directory. 0 bytes" in said_of(missing, staged).message
    assert "was not saved" in said_of(RuntimeError(in_words(errno.ENOENT)), staged).message


@pytest.mark.parametrize(
    "error", [ValueError("x"), OSError(errno.EINVAL, "Invalid argument"), RuntimeError("os error")]
)
def test_a_mistake_passes(error: Exception, staged: Path) -> None:
    """What no disk says stays what it is."""
    with pytest.raises(type(error)) as caught, explained(staged):
        raise error
    assert error is caught.value


def test_a_disk_that_does_not_even_list(staged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What had been written is then not known: the first error is told all the same."""

    def broken(folder: Path) -> int:
        raise OSError(errno.EIO, "Input/output error", str(folder))

    monkeypatch.setattr(failing, "size_bytes", broken)

    assert "ESTALE: Stale. 0 bytes had been written" in said_of(OSError(errno.ESTALE, "Stale"), staged).message


def test_the_need_of_the_whole(staged: Path) -> None:
    """Who knows it adds it to what a writer said of a full disk, where it is more."""
    full = said_of(OSError(errno.ENOSPC, "No space left on device"), staged)
    whole = with_need(full, 1000)

    assert f"{full.message}; the whole checkpoint needs at least 1,000 bytes" == whole.message
    assert (1000, full.free_bytes, full.path, full.remedy) == (
        whole.needed_bytes,
        whole.free_bytes,
        whole.path,
        whole.remedy,
    )
    assert isinstance(whole, StorageFullError)
    assert full is with_need(full, 6)
    broken = said_of(OSError(errno.EIO, "Input/output error"), staged)
    assert broken is with_need(broken, 1000)
