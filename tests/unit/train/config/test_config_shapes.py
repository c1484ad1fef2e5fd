"""Parameter counts from shapes, against what the models' authors and transformers count."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForTokenClassification

from orz_train.config.model_shapes import FAMILIES, ModelShape, find_shape
from orz_train.errors import ConfigError

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("model", "params"),
    [
        ("EleutherAI/pythia-14m", 14_067_712),
        ("EleutherAI/pythia-70m", 70_426_624),
        ("Qwen/Qwen2.5-0.5B", 494_032_768),
        ("Qwen/Qwen2.5-1.5B", 1_543_714_304),
        ("Qwen/Qwen2.5-3B", 3_085_938_688),
        ("Qwen/Qwen2.5-7B", 7_615_616_512),
        ("Qwen/Qwen2.5-14B", 14_770_033_664),
        ("Qwen/Qwen2.5-32B", 32_763_876_352),
        ("Qwen/Qwen2.5-72B", 72_706_203_648),
        ("Qwen/Qwen3-0.6B-Base", 596_049_920),
        ("Qwen/Qwen3-8B-Base", 8_190_735_360),
        ("meta-llama/Llama-3.1-8B", 8_030_261_248),
        ("meta-llama/Llama-3.2-1B", 1_235_814_400),
        ("meta-llama/Llama-3.2-3B", 3_212_749_824),
    ],
)
def test_table_gives_the_published_counts(model: str, params: int) -> None:
    """The shapes in the table amount to the parameter counts on the models' pages."""
    shape = find_shape(model)
    assert shape is not None
    assert params == shape.num_params


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_counts_are_transformers_own(family: str, tied: bool, tmp_path: Path) -> None:
    """For every family a folder's config.json gives the count of the modules that transformers builds from it."""
    sizes: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "vocab_size": 100,
        "tie_word_embeddings": tied,
    }
    if family != "gpt_neox":
        sizes["num_key_value_heads"] = 2
    if family == "qwen3":
        sizes["head_dim"] = 16
    config = AutoConfig.for_model(family, **sizes)
    config.save_pretrained(tmp_path)
    config.num_labels, config.token_classification_bias = 1, False
    with torch.device("meta"):
        policy = AutoModelForCausalLM.from_config(config)
        critic = AutoModelForTokenClassification.from_config(config)
    shape = find_shape(str(tmp_path))
    assert shape is not None
    assert sum(parameter.numel() for parameter in policy.parameters()) == shape.num_params
    head_bias = sum(parameter.numel() for name, parameter in critic.named_parameters() if parameter.numel() == 1)
    assert sum(parameter.numel() for parameter in critic.parameters()) - head_bias == shape.critic_params


def test_kv_cache_counts_keys_and_values_of_all_layers() -> None:
    """Qwen2.5-7B: 2 x 28 layers x 4 heads x 128 = 28,672 numbers a token."""
    shape = find_shape("Qwen/Qwen2.5-7B")
    assert shape is not None
    assert 28_672 == shape.kv_values_per_token


def test_names_are_found_in_their_variants() -> None:
    """Letter case and -Instruct make no difference; a name nobody knows has no shape."""
    assert find_shape("qwen/qwen2.5-7b") == find_shape("Qwen/Qwen2.5-7B-Instruct")
    assert find_shape("Qwen/Qwen3-8B") == find_shape("Qwen/Qwen3-8B-Base")
    assert find_shape("some/other-model") is None


def test_unknown_family_has_no_shape(tmp_path: Path) -> None:
    """A folder of an architecture that isn't known here is not guessed at."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mamba"}))
    assert find_shape(str(tmp_path)) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "is no model configuration"),
        ("[]", "is no model configuration"),
        ("{}", "has no 'model_type'"),
        ('{"model_type": "llama"}', "has no 'num_attention_heads'"),
        ('{"model_type": "llama", "num_attention_heads": "x"}', "is no model configuration"),
    ],
)
def test_broken_config_json_is_named(tmp_path: Path, text: str, expected: str) -> None:
    """What is wrong with a model folder's config.json is told with the file."""
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ConfigError, match=expected) as caught:
        find_shape(str(tmp_path))
    assert "config.json: " in str(caught.value)


def test_head_dim_is_hidden_over_heads_unless_given(tmp_path: Path) -> None:
    """A config without head_dim and num_key_value_heads has plain attention."""
    sizes = {"num_hidden_layers": 1, "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 4}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": 3, **sizes}))
    expected = ModelShape(
        family="llama", layers=1, hidden=8, heads=2, kv_heads=2, head_dim=4, intermediate=4, vocab=3, tied=False
    )
    assert expected == find_shape(str(tmp_path))
