"""A tensor in two safetensors files that no index chooses between: no command takes one of them in silence."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from orz_ckpt.manifest import MANIFEST_NAME
from orz_ckpt.verify import verify
from orz_cli.main import main

if TYPE_CHECKING:
    from pathlib import Path

save_file = pytest.importorskip("safetensors.numpy").save_file

pytestmark = pytest.mark.component


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "weights"
    path.mkdir()
    for number, name in enumerate("ab"):
        save_file({"w": np.full(3, number, "<f4"), name: np.ones(1, "<f4")}, path / f"{name}.safetensors")
    return path


@pytest.mark.parametrize(
    "command", ["merge {} {}-out", "verify {}", "verify {} --level quick", "inspect {}", "manifest {}"]
)
def test_each_command_says_so(command: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 1 with the tensor and both files; nothing is merged, and no manifest vouches for it."""
    assert 1 == main(["ckpt", *command.format(folder, folder).split(), "--json"])
    (found,) = [entry for entry in json.loads(capsys.readouterr().out)["findings"] if entry["severity"] == "error"]
    assert ("elements_differ", "w", str(folder / "b.safetensors")) == (found["code"], found["tensor"], found["path"])
    assert "'a.safetensors' holds it, too" in found["message"]
    assert ["a.safetensors", "b.safetensors"] == sorted(entry.name for entry in folder.iterdir())
    assert [folder.name] == [entry.name for entry in folder.parent.iterdir()]


def test_diff_takes_none_of_them(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder that may be either of two is compared with nothing."""
    assert 0 != main(["ckpt", "diff", str(folder), str(folder)])
    assert "'a.safetensors' holds it, too" in capsys.readouterr().err


def test_one_file_of_them_is_taken(folder: Path) -> None:
    """What the message proposes works: a file of the two, or the folder without the other."""
    assert 0 == main(["ckpt", "merge", str(folder / "b.safetensors"), str(folder.parent / "out")])
    (folder / "a.safetensors").unlink()
    assert 0 == main(["ckpt", "manifest", str(folder)])
    assert (folder / MANIFEST_NAME).is_file()


def test_many_are_cut_short(folder: Path) -> None:
    """Two whole saves side by side: ten tensors are named, the rest is counted."""
    for name in "ab":
        save_file({f"layer.{number}": np.ones(1, "<f4") for number in range(100)}, folder / f"{name}.safetensors")
    found = [entry for entry in verify(folder).findings if entry.code == "elements_differ"]
    assert 11 == len(found)
    assert "and 90 more tensors" in found[-1].message


def test_the_file_that_a_loader_takes_is_alone(folder: Path) -> None:
    """`model.safetensors` is what loaders take; others beside it, such as another precision, are not asked."""
    save_file({"w": np.ones(3, "<f4")}, folder / "model.safetensors")
    assert "elements_differ" not in {entry.code for entry in verify(folder).findings}
