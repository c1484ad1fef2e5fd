"""Which names are LoRA factors, and which scale belongs to which module."""

from __future__ import annotations

from pathlib import Path

import pytest

from orz_ckpt.readers.peft.config import AdapterConfig
from orz_ckpt.readers.peft.lora_names import base_name, is_factor, pairs_in
from orz_ckpt.tensors.source import Block, Piece, SourceTensor

pytestmark = pytest.mark.unit


def tensor(name: str) -> SourceTensor:
    block = Block(path=Path("x"), offset=0, dtype="F32", shape=(1,), strides=(1,))
    return SourceTensor(name=name, dtype="F32", shape=(1,), grid=(1,), pieces=(Piece(block=block, start=(0,)),))


@pytest.mark.parametrize(
    ("name", "module", "adapter"),
    [
        ("base_model.model.model.layers.0.q_proj.lora_A.weight", "model.layers.0.q_proj", ""),
        ("base_model.model.model.layers.0.q_proj.lora_B.default.weight", "model.layers.0.q_proj", "default"),
        ("base_model.model.embed.lora_embedding_A", "embed", ""),
        ("base_model.model.embed.lora_embedding_B.default", "embed", "default"),
    ],
)
def test_factors_of_all_forms(name: str, module: str, adapter: str) -> None:
    """Files of peft leave the adapter's name out, whole wrapped models keep it; embeddings have no `.weight`."""
    (pair,) = pairs_in({name: tensor(name)}).values()
    assert (module, adapter) == (pair.module, pair.adapter)
    assert ("embedding" in name, "_A" in name) == (pair.embedding, pair.left is None)


@pytest.mark.parametrize(
    "name",
    [
        "base_model.model.q_proj.lora_B.bias",
        "base_model.model.q_proj.lora_B.default.bias",
        "base_model.model.q_proj.lora_magnitude_vector",
        "base_model.model.lm_head.weight",
        "lora_A.weight",
    ],
)
def test_what_is_no_factor(name: str) -> None:
    """Biases of factors, magnitudes and whole tensors are none."""
    assert not is_factor(name)


@pytest.mark.parametrize(
    ("wrapped", "plain"),
    [
        ("base_model.model.model.layers.0.q_proj.base_layer.weight", "model.layers.0.q_proj.weight"),
        ("base_model.model.lm_head.modules_to_save.default.weight", "lm_head.weight"),
        ("base_model.model.model.norm.weight", "model.norm.weight"),
        ("model.norm.weight", "model.norm.weight"),
    ],
)
def test_names_in_the_model_itself(wrapped: str, plain: str) -> None:
    """The wrapper's parts of a name go, nothing else does."""
    assert plain == base_name(wrapped)


@pytest.mark.parametrize(
    ("module", "scale"),
    [
        ("model.layers.0.q_proj", 6.0),  # 12 / 2
        ("model.layers.0.xq_proj", 3.0),  # 12 / 4: the end of a name is not the end of a word
        ("model.layers.0.down_proj", 2.0),  # 8 / 4
        ("up.model.layers.0.down_proj", 3.0),  # ^ asks for the whole name
    ],
)
def test_scale_of_single_modules(module: str, scale: float) -> None:
    """A pattern is a module's whole name or the end of it from a dot on; `^` allows only the whole name."""
    config = AdapterConfig(rank=4, alpha=12, ranks={"q_proj": 2}, alphas={"^model.layers.0.down_proj": 8})
    assert scale == config.scale(module)


def test_scale_of_a_stabilised_rank() -> None:
    """By hand: 12 / root 4 = 6."""
    assert 6.0 == AdapterConfig(rank=4, alpha=12, rank_stabilised=True).scale("any")
