"""Shards that no index names, beside a model in one file: which of them to remove."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from safetensors.numpy import load_file, save_file

from orz_ckpt.verify import verify
from orz_cli.findings import Severity

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from orz_ckpt.findings import CkptFinding

    WriteModel = Callable[..., Path]

pytestmark = pytest.mark.component

POLICY = {
    "architectures": ["Qwen2ForCausalLM"],
    "vocab_size": 33,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def errors(path: Path) -> list[CkptFinding]:
    return [entry for entry in verify(path).findings if entry.severity is Severity.ERROR]


def test_shard_beside_a_single_model(tmp_path: Path, make_model: WriteModel) -> None:
    """What an earlier save left beside a whole model is named as what to remove; the model is judged all the same."""
    model = make_model(tmp_path / "whole", POLICY)
    name = "model-00003-of-00007.safetensors"
    shutil.copy(model / "model.safetensors", model / name)
    (found,) = errors(model)
    assert ("shard_orphan", str(model / name), "remove it") == (found.code, found.path, found.remedy)
    assert "loaders take model.safetensors" in found.message

    tensors = load_file(model / "model.safetensors")
    tensors.pop("model.norm.weight")
    save_file(tensors, model / "model.safetensors")
    assert {"shard_orphan", "tensor_missing"} == {entry.code for entry in errors(model)}


def test_all_shards_beside_a_single_model(model: Path, tmp_path: Path, make_model: WriteModel) -> None:
    """Of two whole saves nobody can say which is meant: both are named."""
    single = make_model(tmp_path / "single", POLICY)
    shutil.copy(single / "model.safetensors", model)
    (model / "model.safetensors.index.json").unlink()
    (found,) = errors(model)
    assert ("index_invalid", str(model)) == (found.code, found.path)
    assert "there are 2 shards (model-00001-of-00002.safetensors, ...) without an index beside" in found.message
    assert found.remedy.startswith("remove the shards if model.safetensors is the save that you want")


def test_all_shards_and_a_stray_one_beside_a_single_model(model: Path, tmp_path: Path, make_model: WriteModel) -> None:
    """A shard of a third save changes nothing for a whole one: nothing says to remove that, only the stray."""
    single = make_model(tmp_path / "single", POLICY)
    shutil.copy(single / "model.safetensors", model)
    (model / "model.safetensors.index.json").unlink()
    whole = sorted(path.name for path in model.glob("model-*-of-00002.safetensors"))
    stray = model / "model-00001-of-00003.safetensors"
    shutil.copy(model / whole[0], stray)
    assert 2 == len(whole)
    saves, orphan = sorted(errors(model), key=lambda entry: entry.code)
    assert ("index_invalid", str(model)) == (saves.code, saves.path)
    assert f"there are 2 shards ({whole[0]}, ...)" in saves.message
    assert ("shard_orphan", str(stray)) == (orphan.code, orphan.path)
