"""Weights that are whole and not what they should be, each made for real: what `verify` says of them.

Numbers are those of the list of failure modes: F15 spread weights, F17 lost frozen weights, F18 tied weights, F19
types, F20 shapes, F21 zeros, F28 NaN, F29 tokenizers, F30 adapters. Of the others, the story of the JSON files (F1, F2,
F16) is in `test_verify_unrecognised`, folders that do not last or may not be read (F3, F4, F6) are in
`test_verify_place`, what is cut off (F7, F8, F9, F12, F33) in `test_verify_half_written`, states and times (F31, F36)
in `test_verify_runs`. Those of shards are in `test_verify_deepspeed` and `test_verify_sharded` (F1, F7, F8, F10 to F14,
F16, F28, F34, F36, F37), F27 is in `test_verify_against`, F10 of our own checkpoints and F35 (two writers of one step)
in `test_verify_checkpoint` and `test_storage`. F5 (disks that are not shared) and F32 (a stale view) are in
`test_storage_checks`, F6 and F7 before a save in `cluster/test_preflight`, full, read-only and broken disks under the
other commands in `test_disks`, F22 (memory) in `test_memory`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from orz_ckpt.findings import Level, Report
from orz_ckpt.verify import verify
from orz_cli.findings import Severity, Status

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    WriteModel = Callable[..., Path]

pytestmark = pytest.mark.component

GATE = "model.layers.0.mlp.gate_proj.weight"


def codes(report: Report) -> set[str]:
    return {entry.code for entry in report.findings if entry.severity is not Severity.INFO}


def the(report: Report, code: str) -> Any:
    (found,) = (entry for entry in report.findings if entry.code == code)
    return found


def edit(path: Path, **values: object) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**document, **values}), encoding="utf-8")


@pytest.fixture
def single(make_model: WriteModel, tmp_path: Path) -> Callable[..., Path]:
    """The function that writes a model in one file, some of its weights changed."""

    def write(change: Callable[[dict[str, NDArray[Any]]], object] = lambda _: None, **config: object) -> Path:
        sizes = {"vocab_size": 33, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
        heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
        path = make_model(tmp_path / "single", {"architectures": ["Qwen2ForCausalLM"], **sizes, **heads, **config})
        tensors = load_file(path / "model.safetensors")
        change(tensors)
        save_file(tensors, path / "model.safetensors")
        return path

    return write


def test_spread_weights(single: Callable[..., Path]) -> None:
    """Weights that were saved while ZeRO-3 had spread them have no elements: how to get them is said (F15)."""
    path = single(lambda tensors: tensors.update({name: np.ones(0, np.float32) for name in tensors}))
    found = the(verify(path), "tensor_empty")

    assert "27 of 27 tensors have no elements" in found.message
    assert "merge them from the shards" in found.remedy


def test_lost_frozen_weights(single: Callable[..., Path]) -> None:
    """Weights that were frozen and not saved are missed by what the configuration promises (F17)."""
    path = single(lambda tensors: tensors.pop("model.embed_tokens.weight"))

    assert "'model.embed_tokens.weight' [33, 16] is missing" in the(verify(path), "tensor_missing").message


def test_tied_weights(single: Callable[..., Path]) -> None:
    """Head and embedding that the configuration ties: alike is fine, one alone is fine, differing is said (F18)."""

    def alike(tensors: dict[str, NDArray[Any]]) -> None:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].copy()

    path = single(alike, tie_word_embeddings=True)
    assert set() == codes(verify(path))
    tensors = load_file(path / "model.safetensors")
    tensors["lm_head.weight"][0, 0] += 1
    save_file(tensors, path / "model.safetensors")
    found = the(verify(path), "tie_differs")

    assert (Severity.WARN, "lm_head.weight") == (found.severity, found.tensor)
    assert {"tensor_missing"} == codes(verify(_without_head(path)))


def _without_head(path: Path) -> Path:
    tensors = load_file(path / "model.safetensors")
    del tensors["lm_head.weight"]
    save_file(tensors, path / "model.safetensors")
    edit(path / "config.json", tie_word_embeddings=False)
    return path


@pytest.mark.parametrize(("key", "stated", "expected"), [
    ("torch_dtype", "bfloat16", {"dtype_differs"}),
    ("dtype", "bfloat16", {"dtype_differs"}),
    ("dtype", "float32", set()),
    ("dtype", "auto", set()),
])  # fmt: skip
def test_types(key: str, stated: str, expected: set[str], single: Callable[..., Path]) -> None:
    """fp32 weights under a configuration that says bfloat16 are twice the size that was meant (F19)."""
    report = verify(single(**{key: stated}))

    assert expected == codes(report)
    assert not expected or "bytes are float32" in the(report, "dtype_differs").message


def test_shapes(single: Callable[..., Path]) -> None:
    """A matrix with rows too many, as padding and copies of ranks make them, is found (F20)."""
    path = single(lambda tensors: tensors.update({GATE: np.ones((32, 16), np.float32)}))

    assert f"'{GATE}': config.json says [24, 16], the file [32, 16]" in the(verify(path), "shape_differs").message


def test_zeros(single: Callable[..., Path]) -> None:
    """A model of nothing but zeros, as DeepSpeed 0.16.0 merged, fails although all of it is whole (F21)."""
    path = single(lambda tensors: tensors.update({name: array * 0 for name, array in tensors.items()}))

    assert "weights are zero: nothing was copied" in the(verify(path), "all_zero_model").message


def test_nan(single: Callable[..., Path]) -> None:
    """NaN is told by name and index (F28)."""
    path = single(lambda tensors: tensors[GATE].__setitem__((3, 5), np.nan))

    assert f"'{GATE}': 1 of 384 numbers are NaN or Inf, first at [3, 5]" in the(verify(path), "not_finite").message


@pytest.mark.parametrize(
    ("tokenizer", "expected"),
    [
        ({"model": {"type": "BPE", "vocab": {"a": 0, "ü": 32}}, "added_tokens": [{"id": 12, "content": "<x>"}]}, None),
        ({"model": {"type": "BPE", "vocab": {"a": 0, "b": 33}}}, 33),
        ({"added_tokens": [{"id": 40, "content": "<pad>"}], "model": {"vocab": {"vocab": 1}}}, 40),
        ({"model": {"type": "Unigram", "vocab": [["a", -1.5]] * 34}}, 33),
        ({"truncation": {"max_length": 4096}, "model": {"vocab": {'"vocab": {': 3}}}, None),
        ({"model": {"type": "BPE", "vocab": {}}}, None),
    ],
)
def test_tokenizer_of_another_model(tokenizer: dict[str, Any], expected: int | None, model: Path) -> None:
    """A tokenizer with an id beyond the embedding's 33 rows is found, in whatever part of it the id stands (F29)."""
    (model / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")
    report = verify(model, level=Level.QUICK)

    assert ({"vocabulary_small"} if expected else set()) == codes(report)
    if expected:
        assert f"tokens up to {expected}, and config.json a vocabulary of 33" in the(report, "vocabulary_small").message


def test_adapters(tmp_path: Path) -> None:
    """An adapter that was never trained, or lost its alpha, changes nothing (F30)."""
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.weight"
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    factors = {name.format("A"): np.ones((2, 4), np.float32), name.format("B"): np.ones((4, 2), np.float32)}
    save_file(factors, tmp_path / "adapter_model.safetensors")
    assert (Status.OK, set()) == (verify(tmp_path).status(), codes(verify(tmp_path)))
    save_file({**factors, name.format("B"): np.zeros((4, 2), np.float32)}, tmp_path / "adapter_model.safetensors")
    assert {"lora_zero"} == codes(verify(tmp_path))
    save_file(
        {**factors, name.format("A"): np.full((2, 4), np.nan, np.float32)}, tmp_path / "adapter_model.safetensors"
    )
    assert {"not_finite"} == codes(verify(tmp_path))
    save_file(factors, tmp_path / "adapter_model.safetensors")
    edit(tmp_path / "adapter_config.json", lora_alpha=0)

    assert {"lora_alpha_lost"} == codes(verify(tmp_path))
