"""Sources that are not whole or cannot be read: what is missing is named, and nothing is written."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from orz_ckpt.errors import FormatError, UnreadableError
from orz_ckpt.merge.run import merge
from orz_ckpt.sources import open_source
from orz_cli.exits import ExitCode
from orz_cli.findings import Status

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.component


def test_a_name_that_no_file_can_hold(tmp_path: Path) -> None:
    """Half of a surrogate pair, which a pickle can hold and UTF-8 cannot: the error says which name it is."""
    torch = pytest.importorskip("torch")
    torch.save({"w": torch.ones(2), "half \ud800": torch.ones(2)}, tmp_path / "x.pt")

    with pytest.raises(FormatError, match=r"'half \\ud800' is no name"):
        merge(open_source(tmp_path / "x.pt"), tmp_path / "out")


def codes(findings: tuple[Any, ...]) -> list[str]:
    return [entry.code for entry in findings]


def test_broken_source(model: Path, tmp_path: Path) -> None:
    """A missing shard is exit 1 with the file named, and nothing is written."""
    next(model.glob("model-00002*")).unlink()
    merged = merge(open_source(model), tmp_path / "out")

    assert (Status.FAILED, False) == (merged.status(), merged.written)
    assert "file_missing" in codes(merged.findings)
    assert not list(tmp_path.glob("out*"))


def test_missing_elements(model: Path, tmp_path: Path) -> None:
    """A tensor of which a piece is in no file is named, with the range; and nothing is written."""
    source = open_source(model)
    tensor = source.tensors["lm_head.weight"]
    flat = replace(tensor.pieces[0], block=tensor.pieces[0].block.flat(0, 100), start=(0,))
    holed = replace(tensor, grid=(tensor.numel,), pieces=(flat,))
    merged = merge(replace(source, tensors={**source.tensors, tensor.name: holed}), tmp_path / "out")

    assert (["tensor_hole"], False) == (codes(merged.findings), merged.written)
    assert "428 of 528 elements are in no file, first 100 to 528" in merged.findings[0].message
    assert not list(tmp_path.glob("out*"))


def test_a_source_that_shrinks(model: Path, tmp_path: Path) -> None:
    """A file that is cut after it was listed is found before anything is written."""
    source = open_source(model)
    os.truncate(next(model.glob("model-00001*")), 1000)
    merged = merge(source, tmp_path / "out")

    assert (Status.FAILED, False) == (merged.status(), merged.written)
    assert "tensor_hole" in codes(merged.findings)
    assert not list(tmp_path.glob("out*"))


def test_a_source_that_cannot_be_read(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read error names the file that it came from, is exit 3, and leaves nothing behind."""

    def fail(*_: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("orz_ckpt.tensors.gather.os.preadv", fail)
    with pytest.raises(
        UnreadableError, match=r"model-0000\d-of-00002\.safetensors cannot be read: Input/output"
    ) as caught:
        merge(open_source(model), tmp_path / "out")

    assert ExitCode.INCONCLUSIVE is caught.value.exit_code
    assert not list(tmp_path.glob("out*"))


def test_a_name_that_cannot_be_written(model: Path, tmp_path: Path) -> None:
    """A tensor called `__metadata__` would change what the file says; it is refused."""
    source = open_source(model)
    tensor = replace(source.tensors["lm_head.weight"], name="__metadata__")
    with pytest.raises(FormatError, match="no name for a tensor"):
        merge(replace(source, tensors={"__metadata__": tensor}), tmp_path / "out")


def test_nothing_to_merge(model: Path, tmp_path: Path) -> None:
    """A checkpoint without tensors fails; it does not give an empty model."""
    merged = merge(replace(open_source(model), tensors={}), tmp_path / "out")

    assert (["no_weights"], Status.FAILED, False) == (codes(merged.findings), merged.status(), merged.written)
