"""A file gets its name without replacing anything, on every kind of file system."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from orz_ckpt.disk.placing import place
from orz_ckpt.errors import CheckpointExistsError

pytestmark = pytest.mark.unit


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A file, and the name that it is to get."""
    (tmp_path / "from").mkdir()
    (tmp_path / "to").mkdir()
    (tmp_path / "from" / "a").write_bytes(b"new")
    return tmp_path / "from" / "a", tmp_path / "to" / "b"


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def refuse_links(monkeypatch: pytest.MonkeyPatch, code: int, times: int = 9) -> None:
    real, left = os.link, [times]

    def link(source: Path, target: Path) -> None:
        if left[0]:
            left[0] -= 1
            raise OSError(code, os.strerror(code))
        real(source, target)

    monkeypatch.setattr("orz_ckpt.disk.placing.os.link", link)


@pytest.mark.parametrize("code", [0, errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.EXDEV])
def test_it_moves(files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """With hard links, without them, and from another file system, whose copy is linked then."""
    if code:
        refuse_links(monkeypatch, code, times=1 if code == errno.EXDEV else 9)
    place(*files)
    assert (b"new", ["b"]) == (files[1].read_bytes(), names(files[1].parent))
    assert [] == names(files[0].parent)


@pytest.mark.parametrize("code", [0, errno.EPERM, errno.EXDEV])
def test_nothing_is_replaced(files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """What is there stays, and so does what was to come."""
    files[1].write_bytes(b"old")
    if code:
        refuse_links(monkeypatch, code, times=1)
    with pytest.raises(CheckpointExistsError, match="came into being"):
        place(*files)
    assert (b"new", b"old", ["b"]) == (files[0].read_bytes(), files[1].read_bytes(), names(files[1].parent))


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_an_error_of_the_disk_is_none_of_links(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """It is not taken for a file system without hard links: nothing is renamed behind its back."""
    refuse_links(monkeypatch, code)
    with pytest.raises(OSError, match=os.strerror(code)):
        place(*files)
    assert (True, False) == (files[0].exists(), files[1].exists())
