"""The table of shapes agrees with what transformers itself saves, for every architecture and head in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from orz_ckpt.findings import Level
from orz_ckpt.verify import verify
from orz_cli.findings import Severity

if TYPE_CHECKING:
    from pathlib import Path

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.component

SIZES: dict[str, Any] = {
    "vocab_size": 33,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
GROUPED = {**SIZES, "num_key_value_heads": 2}


@pytest.mark.parametrize("head", ["ForCausalLM", "ForTokenClassification", "ForSequenceClassification", "Model"])
@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("Llama", GROUPED),
        ("Llama", {**SIZES, "attention_bias": True, "mlp_bias": True, "head_dim": 8}),
        ("Mistral", GROUPED),
        ("Mistral", {**GROUPED, "head_dim": 8, "num_labels": 1}),
        ("Qwen2", {**GROUPED, "num_labels": 1}),
        ("Qwen2", {**GROUPED, "tie_word_embeddings": True, "num_labels": 3}),
        ("Qwen2", {**GROUPED, "num_labels": 1, "token_classification_bias": False}),
        ("Qwen3", {**GROUPED, "head_dim": 8}),
        ("Qwen3", {**GROUPED, "attention_bias": True, "tie_word_embeddings": True}),
        ("GPTNeoX", SIZES),
        ("GPTNeoX", {**SIZES, "attention_bias": False, "num_labels": 1}),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_saved_by_transformers(tmp_path: Path, family: str, head: str, options: dict[str, Any]) -> None:
    """A model that transformers saved has exactly the tensors and shapes that its config.json promises here."""
    config = getattr(transformers, f"{family}Config")(**options)
    with torch.device("cpu"):
        getattr(transformers, f"{family}{head}")(config).save_pretrained(tmp_path)
    report = verify(tmp_path, level=Level.QUICK)

    assert [] == [entry for entry in report.findings if entry.severity is not Severity.INFO]
    assert "shapes_not_checked" not in {entry.code for entry in report.findings}
