"""Folders in folders by the thousand: looked at only so deep, with a finding, by everything that walks them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from safetensors.numpy import save_file

from orz_ckpt.checks.files import list_files
from orz_ckpt.disk.folder import plain_files, size_bytes
from orz_ckpt.disk.walk import MAX_DEPTH, TooDeepError, walk
from orz_ckpt.findings import Level
from orz_ckpt.node.scan import scan
from orz_ckpt.readers.deepspeed.names import files
from orz_ckpt.verify import verify
from orz_cli.findings import Status
from orz_cli.main import main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.component

DEPTH = 1300
"""More than Python lets functions call themselves, and short enough for a path."""


@pytest.fixture
def deepen() -> Iterator[Callable[[Path], Path]]:
    """The function that makes folders in folders below one, with a file in the last; they are gone afterwards."""
    made: list[Path] = []

    def make(folder: Path) -> Path:
        for _ in range(DEPTH):
            folder /= "d"
            folder.mkdir(parents=False, exist_ok=True)
            made.append(folder)
        (folder / "x").write_bytes(b"x")
        return folder

    yield make
    if made:
        (made[-1] / "x").unlink(missing_ok=True)
    for folder in reversed(made):
        folder.rmdir()


def test_listing(tmp_path: Path, deepen: Callable[[Path], Path]) -> None:
    """What lies before the limit is listed, what lies behind is one finding with the folder and what to do."""
    deepen(tmp_path)
    (tmp_path / "z" / "y").mkdir(parents=True)
    (tmp_path / "z" / "y" / "a").write_bytes(b"12")
    (tmp_path / "b").write_bytes(b"1")
    listing = list_files(tmp_path)

    assert {"b": 1, "z/y/a": 2} == listing.sizes
    (found,) = listing.findings
    assert ("unreadable", str(tmp_path.joinpath(*["d"] * MAX_DEPTH))) == (found.code, found.path)
    assert f"folders are nested deeper than {MAX_DEPTH}" == found.message
    assert "move away" in found.remedy


def test_the_limit_itself(tmp_path: Path) -> None:
    """Folders nested as deep as is allowed are looked at; one more is not."""
    deepest = tmp_path.joinpath(*["d"] * MAX_DEPTH)
    deepest.mkdir(parents=True)
    (deepest / "x").write_bytes(b"x")

    assert {"d/" * MAX_DEPTH + "x": 1} == list_files(tmp_path).sizes
    assert 1 == size_bytes(tmp_path)
    (deepest / "e").mkdir()
    with pytest.raises(TooDeepError, match="move away"):
        list(walk(tmp_path))


@pytest.mark.parametrize("inside", ["", "policy", ".orz"])
def test_checkpoint(
    step: Path, inside: str, deepen: Callable[[Path], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """A checkpoint with such folders never passes, and its files are verified all the same."""
    deepen(step / inside)
    report = verify(step, level=Level.QUICK)

    assert Status.INCONCLUSIVE is report.status()
    assert 1 == [entry.code for entry in report.findings].count("unreadable")
    assert 8 < len(report.checked)
    assert 3 == main(["ckpt", "verify", str(step), "--level", "quick"])
    assert "nested deeper" in " ".join(capsys.readouterr().out.split())


def test_writers(tmp_path: Path, deepen: Callable[[Path], Path], capsys: pytest.CaptureFixture[str]) -> None:
    """What describes or commits a folder refuses it with an error of ours."""
    (tmp_path / "model").mkdir()
    deepen(tmp_path / "model")
    with pytest.raises(TooDeepError, match="nested deeper"):
        list(plain_files(tmp_path / "model"))
    save_file({"w": np.ones(2, "<f4")}, tmp_path / "model" / "model.safetensors")

    assert 1 == main(["ckpt", "manifest", str(tmp_path / "model")])
    assert "nested deeper" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "model" / "manifest.json").exists()


def test_deepspeed(tmp_path: Path, deepen: Callable[[Path], Path]) -> None:
    """The folder of a universal checkpoint is walked, too."""
    (tmp_path / "zero").mkdir()
    deepen(tmp_path / "zero")
    with pytest.raises(TooDeepError):
        files(tmp_path)


def test_search(tmp_path: Path, deepen: Callable[[Path], Path]) -> None:
    """A step folder is found by a search with the files before the limit; what was left out is told."""
    step = tmp_path / "step_000001"
    (step / "policy").mkdir(parents=True)
    (step / "policy" / "model.safetensors").write_bytes(b"\2\0\0\0\0\0\0\0{}")
    deepen(step)
    found = scan(tmp_path)

    assert ["policy/model.safetensors"] == [name for piece in found.pieces for name in piece.files]
    assert [f"{step.joinpath(*['d'] * MAX_DEPTH)}: deeper than {MAX_DEPTH} folders in a step"] == found.left_out
    os.rename(step, tmp_path / "other")  # noqa: PTH104  no step: the search has its own, smaller limit
    assert any("deeper than 6 folders" in text for text in scan(tmp_path).left_out)
    os.rename(tmp_path / "other", step)  # noqa: PTH104
