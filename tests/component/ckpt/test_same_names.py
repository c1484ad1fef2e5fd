"""Files that hold the same tensor names by design: variants of a file, and slices of tensor-parallel ranks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from orz_ckpt.verify import verify
from orz_cli.main import main

if TYPE_CHECKING:
    from pathlib import Path

numpy = pytest.importorskip("safetensors.numpy")

pytestmark = pytest.mark.component

PLAIN, VARIANT = "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors"
COMMANDS = ["verify {}", "verify {} --level quick", "inspect {}", "manifest {}", "merge {} {}-out"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "weights"
    path.mkdir()
    (path / "config.json").write_text("{}")
    return path


@pytest.mark.parametrize("command", COMMANDS)
def test_a_variant_is_none_of_what_loaders_take(command: str, folder: Path) -> None:
    """Another precision beside a file, as diffusers saves it, is no second save; what is merged is the plain one."""
    numpy.save_file({"w": np.full(3, 1.25, "<f4")}, folder / PLAIN)
    numpy.save_file({"w": np.full(3, 2.5, "<f2")}, folder / VARIANT)
    assert 0 == main(["ckpt", *command.format(folder, folder).split()])
    if command.startswith("merge"):
        merged = numpy.load_file(folder.parent / "weights-out" / "model.safetensors")["w"]
        assert (np.dtype("<f4"), [1.25, 1.25, 1.25]) == (merged.dtype, merged.tolist())


@pytest.mark.parametrize(
    ("variant", "expected"),
    [({"w": np.ones(4, "<f4")}, {"w"}), ({"w": np.ones(3, "<f4"), "other": np.ones(1, "<f4")}, {"w"})],
)
def test_other_tensors_are_no_variant(variant: dict[str, np.ndarray], expected: set[str], folder: Path) -> None:
    """A file named like a variant that holds other tensors or shapes is not left out in silence."""
    numpy.save_file({"w": np.ones(3, "<f4")}, folder / PLAIN)
    numpy.save_file(variant, folder / VARIANT)
    assert expected == {entry.tensor for entry in verify(folder).findings if entry.code == "elements_differ"}


def test_a_part_named_like_a_variant_is_merged(folder: Path) -> None:
    """`layers.1.safetensors` beside `layers.safetensors` holds other tensors: both are in what is merged."""
    numpy.save_file({"a": np.ones(3, "<f4")}, folder / "layers.safetensors")
    numpy.save_file({"b": np.ones(3, "<f4")}, folder / "layers.1.safetensors")
    assert 0 == main(["ckpt", "merge", str(folder), f"{folder}-out"])
    assert {"a", "b"} == numpy.load_file(folder.parent / "weights-out" / "model.safetensors").keys()


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("command", COMMANDS)
def test_slices_of_ranks(command: str, ranks: int, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What vLLM's sharded_state saved is exit 3 and says what it is, not that one of them is another save."""
    for rank in range(ranks):
        slices = {"q": np.full((2, 4), rank + 1, "<f4"), "norm": np.ones(4, "<f4")}
        numpy.save_file(slices, folder / f"model-rank-{rank}-part-0.safetensors")
    assert 3 == main(["ckpt", *command.format(folder, folder).split(), "--json"])
    (found,) = [entry for entry in json.loads(capsys.readouterr().out)["findings"] if entry["severity"] == "error"]
    assert ("layout_unsupported", str(folder)) == (found["code"], found["path"])
    assert "slices of tensor-parallel ranks" in found["message"]
    assert "Hugging Face folder" in found["remedy"]
    assert [folder.name] == [entry.name for entry in folder.parent.iterdir()]
    assert not (folder / "manifest.json").exists()
