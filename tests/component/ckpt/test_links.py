"""A link that leads out of a checkpoint is refused by every command alike; where it stays inside none minds it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from orz_cli.main import main

if TYPE_CHECKING:
    from collections.abc import Callable

    Judge = Callable[[Path], dict[str, Any]]

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.component

SHARD = "model-00001-of-00002.safetensors"


def refused(path: Path) -> dict[str, Any]:
    """What all commands say of a link; `diff` has no findings of its own, and says it as an error."""
    told = [str(path)]
    return dict.fromkeys(("verify", "inspect", "merge", "convert"), (4, told)) | {"diff": (4, [])}


def write_torch(model: Path) -> Path:
    """Turn the weights of a folder into a file of torch."""
    tensors: dict[str, Any] = {}
    for file in model.glob("model*.safetensors"):
        tensors |= {name: torch.from_numpy(array) for name, array in load_file(file).items()}
        file.unlink()
    (model / "model.safetensors.index.json").unlink()
    torch.save(tensors, model / "pytorch_model.bin")
    return model / "pytorch_model.bin"


def write_adapter(folder: Path) -> Path:
    """Write an adapter of one matrix."""
    folder.mkdir()
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    name = "base_model.model.model.layers.0.self_attn.q_proj"
    factors = {f"{name}.lora_A.weight": np.ones((2, 4), "<f4"), f"{name}.lora_B.weight": np.ones((4, 2), "<f4")}
    save_file(factors, folder / "adapter_model.safetensors")
    return folder


@pytest.mark.parametrize("name", [SHARD, "config.json", "tokenizer.json"])
def test_model_folder(model: Path, judged_by_all: Judge, link_out: Callable[[Path], None], name: str) -> None:
    """A shard, the configuration or the tokenizer of a Hugging Face folder."""
    link_out(model / name)

    assert refused(model / name) == judged_by_all(model)


def test_torch_folder(model: Path, judged_by_all: Judge, link_out: Callable[[Path], None]) -> None:
    """The weights of a folder that torch saved."""
    file = write_torch(model)
    assert {0} == {code for code, _ in judged_by_all(model).values()}
    link_out(file)

    assert refused(file) == judged_by_all(model)


def test_adapter(model: Path, tmp_path: Path, judged_by_all: Judge, link_out: Callable[[Path], None]) -> None:
    """The factors of a PEFT adapter, alone (which `merge` and `convert` do not take) and added to a model."""
    file = write_adapter(tmp_path / "adapter") / "adapter_model.safetensors"
    link_out(file)
    results = judged_by_all(tmp_path / "adapter")
    arguments = ["ckpt", "merge", str(model), str(tmp_path / "out"), "--lora", str(tmp_path / "adapter")]

    assert refused(file) | {"merge": (2, []), "convert": (2, [])} == results
    assert 4 == main(arguments)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["policy", f"policy/{SHARD}"])
def test_role_of_a_step(step: Path, judged_by_all: Judge, link_out: Callable[[Path], None], name: str) -> None:
    """A role's folder, or a file in it, has to lie in its step, also where the role alone is asked for."""
    link_out(step / name)
    results = judged_by_all(step / "policy")

    assert {4} == {code for code, _ in results.values()}
    assert 4 == judged_by_all(step)["verify"][0]


def test_link_inside_a_step(step: Path, judged_by_all: Judge) -> None:
    """A link from one folder of a step to another stays inside the step."""
    (step / "policy" / SHARD).rename(step / "state" / SHARD)
    (step / "policy" / SHARD).symlink_to(Path("../state") / SHARD)
    results = judged_by_all(step / "policy")

    assert {"merge": (0, []), "inspect": (0, []), "diff": (0, [])}.items() <= results.items()
    assert [] == results["verify"][1]


@pytest.mark.parametrize("torch_file", [False, True])
def test_a_link_that_was_given_itself(model: Path, tmp_path: Path, judged_by_all: Judge, *, torch_file: bool) -> None:
    """Who names a link to a file, or to a folder, means what it leads to."""
    file = write_torch(model) if torch_file else model / SHARD
    link = tmp_path / "links" / f"link{file.suffix}"
    link.parent.mkdir()
    link.symlink_to(file)
    (tmp_path / "links" / "model").symlink_to(model)

    assert [] == [name for name, (code, told) in judged_by_all(link).items() if told or code == 4]
    assert {(0, ())} == {(code, tuple(told)) for code, told in judged_by_all(tmp_path / "links" / "model").values()}


@pytest.mark.parametrize("kind", ["safetensors", "torch", "adapter"])
def test_cache_of_the_hub(model: Path, tmp_path: Path, judged_by_all: Judge, kind: str) -> None:
    """In a Hugging Face cache every file is a link to a blob of the same repository, which is no way out."""
    source = write_adapter(tmp_path / "adapter") if kind == "adapter" else model
    if kind == "torch":
        write_torch(model)
    snapshot, blobs = (tmp_path / "models--org--name" / name for name in ("snapshots/abc", "blobs"))
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for path in source.iterdir():
        shutil.copy(path, blobs / path.name)
        (snapshot / path.name).symlink_to(Path("../../blobs") / path.name)
    before, results = judged_by_all(source), judged_by_all(snapshot)

    assert before == results
    takers = results.keys() - ({"merge", "convert"} if kind == "adapter" else set())  # which take models
    assert {0} == {results[name][0] for name in takers}
