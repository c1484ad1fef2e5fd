"""A checkpoint that is saved over while it is read: what would hold parts of two saves is never published."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from orz_ckpt.convert import Layout, convert_checkpoint
from orz_ckpt.copy.run import copy
from orz_ckpt.manifest import MANIFEST_NAME
from orz_ckpt.merge.run import Options, merge
from orz_ckpt.sources import open_source
from orz_ckpt.tensors.gather import ChangedError
from orz_ckpt.watch import Silent
from orz_cli.exits import ExitCode
from orz_cli.findings import Status

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [pytest.mark.component, pytest.mark.usefixtures("memory")]

LAST = "model-00002-of-00002.safetensors"


class SavesOver(Silent):
    """Does something once the first bytes were written."""

    def __init__(self, save: Callable[[], object]) -> None:
        self._save: Callable[[], object] | None = save

    def advance(self, nbytes: int) -> None:
        """Do it, the first time."""
        if self._save is not None:
            self._save()
            self._save = None


def in_place(folder: Path, other: Path) -> None:
    shutil.copyfile(other / LAST, folder / LAST)


def by_rename(folder: Path, other: Path) -> None:
    (other / LAST).replace(folder / LAST)


def whole_folder(folder: Path, other: Path) -> None:
    folder.rename(folder.with_name("old"))
    other.rename(folder)


def tokenizer(folder: Path, other: Path) -> None:
    (folder / "tokenizer.json").write_text("{ }", encoding="utf-8")


@pytest.fixture
def other(model: Path, tmp_path: Path) -> Path:
    """The next save of the same model: files of the same names and sizes."""
    (model / "tokenizer.json").write_text("{}", encoding="utf-8")
    folder = shutil.copytree(model, tmp_path / "other")
    for file in folder.glob("*.safetensors"):
        data = bytearray(file.read_bytes())
        data[-100] ^= 1
        file.write_bytes(data)
    return folder


@pytest.mark.parametrize("save", [in_place, by_rename, whole_folder, tokenizer])
def test_merge(model: Path, other: Path, tmp_path: Path, save: Callable[[Path, Path], None]) -> None:
    """Whatever way a file is replaced, the merge fails, names it, and leaves nothing to be gone on with."""
    progress = SavesOver(lambda: save(model, other))
    with pytest.raises(ChangedError, match="changed while the checkpoint was read") as caught:
        merge(open_source(model), tmp_path / "out", Options(jobs=1, max_shard_bytes=4000), progress=progress)

    assert ExitCode.FAILED is caught.value.exit_code
    assert ("tokenizer.json" if save is tokenizer else LAST) in caught.value.message or save is whole_folder
    assert not list(tmp_path.glob("out*"))


def test_convert(model: Path, other: Path, tmp_path: Path) -> None:
    """A conversion, which is a merge, fails alike."""
    progress = SavesOver(lambda: by_rename(model, other))
    with pytest.raises(ChangedError, match=f"{LAST} changed while the checkpoint was read"):
        convert_checkpoint(open_source(model), tmp_path / "out", Layout.HF, progress=progress)
    assert not list(tmp_path.glob("out*"))


def test_another_inode(model: Path, tmp_path: Path) -> None:
    """A file with another inode and nothing else changed is the same file: some network file systems do that."""

    def renumber() -> None:
        shutil.copy2(model / LAST, tmp_path / "again")
        (tmp_path / "again").replace(model / LAST)

    inode = (model / LAST).stat().st_ino
    assert merge(open_source(model), tmp_path / "out", progress=SavesOver(renumber)).written
    assert inode != (model / LAST).stat().st_ino


@pytest.mark.parametrize("save", [by_rename, whole_folder])
@pytest.mark.parametrize("to_store", [False, True])
def test_copy(
    model: Path, other: Path, tmp_path: Path, memory, save: Callable[[Path, Path], None], *, to_store: bool
) -> None:
    """Of a folder without manifest no copy comes to its end; once nobody saves there the next one does."""
    dest = "memory://bucket/there" if to_store else str(tmp_path / "there")
    done = copy(str(model), dest, progress=SavesOver(lambda: save(model, other)))

    assert Status.FAILED is done.status()
    (found,) = [entry for entry in done.findings if entry.code == "collect_differs"]
    assert "changed while the folder was copied" in found.message
    assert not (tmp_path / "there").exists()
    assert memory.exists("/bucket/there/.orz/copying") is to_store
    assert Status.OK is copy(str(model), dest).status()
    assert not memory.exists("/bucket/there/.orz/copying")


def test_copy_from_a_store(model: Path, tmp_path: Path, memory) -> None:
    """A store says when a file was made: one that takes another's name meanwhile is told."""
    copy(str(model), "memory://bucket/there")
    assert not memory.exists(f"/bucket/there/{MANIFEST_NAME}")
    data = memory.cat(f"/bucket/there/{LAST}")
    progress = SavesOver(lambda: memory.pipe(f"/bucket/there/{LAST}", data))
    done = copy("memory://bucket/there", str(tmp_path / "back"), progress=progress)

    assert Status.FAILED is done.status()
    assert f"{LAST} changed while" in next(entry.message for entry in done.findings if entry.code == "collect_differs")
    assert not (tmp_path / "back").exists()
