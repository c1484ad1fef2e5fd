"""Small checkpoints, made without torch."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from orz_ckpt.formats.architectures import expected_tensors
from orz_ckpt.inventory import step_folder
from orz_ckpt.storage import stage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    WriteModel = Callable[..., Path]

SIZES: dict[str, Any] = {
    "vocab_size": 33,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
POLICY = {"architectures": ["Qwen2ForCausalLM"], **SIZES}
CRITIC = {
    "architectures": ["Qwen2ForTokenClassification"],
    "num_labels": 1,
    "token_classification_bias": False,
    **SIZES,
}


def weights(config: dict[str, Any]) -> dict[str, NDArray[np.float32]]:
    random = np.random.default_rng(0)
    shapes = expected_tensors(config).required
    return {name: random.standard_normal(shape, dtype="<f4") for name, shape in shapes.items()}


def write_model(folder: Path, config: dict[str, Any], *, shards: int = 1) -> Path:
    """Write a Hugging Face folder with random weights, in one file or in shards with an index."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    tensors = weights(config)
    if shards == 1:
        save_file(tensors, folder / "model.safetensors")
        return folder
    weight_map = {}
    for number in range(shards):
        file = f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
        mine = {name: tensors[name] for name in sorted(tensors)[number::shards]}
        save_file(mine, folder / file)
        weight_map |= dict.fromkeys(mine, file)
    total = sum(array.nbytes for array in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder


def commit_step(run: Path, step: int) -> Path:
    """Commit a step with a policy in two shards, a critic in one file, and a state."""
    final = step_folder(run, step)
    with stage(final) as staged:
        write_model(staged.path / "policy", POLICY, shards=2)
        write_model(staged.path / "critic", CRITIC)
        (staged.path / "state").mkdir()
        (staged.path / "state" / "rank_0.bin").write_bytes(bytes(range(256)) * step)
        staged.commit(step=step, roles={"policy": "policy", "critic": "critic"}, writer="orz-train 0.1.0")
    return final


@pytest.fixture(autouse=True)
def _on_a_disk_that_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Temporary folders may lie in memory or in a container's layer, of which `verify` would tell."""
    monkeypatch.setattr("orz_ckpt.checks.place.find_mount", lambda _: None)


@pytest.fixture
def step(tmp_path: Path) -> Path:
    """A committed step folder in a run."""
    return commit_step(tmp_path / "run", 50)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with the steps 10, 20 and 30."""
    for number in (10, 20, 30):
        commit_step(tmp_path / "run", number)
    return tmp_path / "run"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A foreign Hugging Face folder in two shards."""
    return write_model(tmp_path / "model", POLICY, shards=2)


@pytest.fixture
def make_model() -> WriteModel:
    """The function that writes a model folder."""
    return write_model
