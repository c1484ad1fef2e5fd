"""Model shapes and what follows from them, for planning where there are no weights."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from orz_train.config import shipped
from orz_train.config.yamlfile import display, read_tree
from orz_train.errors import ConfigError


class Family(NamedTuple):
    """Where architectures differ in what they count."""

    qkv_bias: bool
    out_bias: bool
    """Of the attention's output projection."""
    gated: bool
    """The MLP has a gate projection beside up and down."""
    mlp_bias: bool
    norm_bias: bool
    """LayerNorm; False is RMSNorm."""
    qk_norm: bool
    """A norm over each head of queries and keys."""


FAMILIES = {
    "qwen2": Family(qkv_bias=True, out_bias=False, gated=True, mlp_bias=False, norm_bias=False, qk_norm=False),
    "qwen3": Family(qkv_bias=False, out_bias=False, gated=True, mlp_bias=False, norm_bias=False, qk_norm=True),
    "llama": Family(qkv_bias=False, out_bias=False, gated=True, mlp_bias=False, norm_bias=False, qk_norm=False),
    "mistral": Family(qkv_bias=False, out_bias=False, gated=True, mlp_bias=False, norm_bias=False, qk_norm=False),
    "gpt_neox": Family(qkv_bias=True, out_bias=True, gated=False, mlp_bias=True, norm_bias=True, qk_norm=False),
}
"""Hugging Face's `model_type` to what it counts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelShape:
    """A decoder's sizes.

    Example:
        >>> find_shape("Qwen/Qwen2.5-7B").num_params
        7615616512
    """

    family: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    tied: bool

    @property
    def num_params(self) -> int:
        """Count the parameters of the language model; tied embeddings count once."""
        return self.backbone_params + (0 if self.tied else self.vocab * self.hidden)

    @property
    def critic_params(self) -> int:
        """Count the parameters of a critic: the backbone and one row of a value head."""
        return self.backbone_params + self.hidden

    @property
    def backbone_params(self) -> int:
        """Count the parameters without the output matrix."""
        family = FAMILIES[self.family]
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        attention = self.hidden * (queries + 2 * keys) + queries * self.hidden
        attention += (queries + 2 * keys if family.qkv_bias else 0) + (self.hidden if family.out_bias else 0)
        attention += 2 * self.head_dim if family.qk_norm else 0
        mlp = (3 if family.gated else 2) * self.hidden * self.intermediate
        mlp += self.intermediate + self.hidden if family.mlp_bias else 0
        norm = self.hidden * (2 if family.norm_bias else 1)
        return self.vocab * self.hidden + self.layers * (attention + mlp + 2 * norm) + norm

    @property
    def kv_values_per_token(self) -> int:
        """Count the numbers that one token leaves in the KV cache: keys and values of all layers."""
        return 2 * self.layers * self.kv_heads * self.head_dim


def find_shape(model: str) -> ModelShape | None:
    """Return a model's shape: of a local or shipped folder from its config.json, else from the table.

    Args:
        model: as in `policy.model`. `Qwen/Qwen2.5-7B-Instruct` has the shape of `Qwen/Qwen2.5-7B`.

    Returns:
        None where the model is nowhere to be seen, or of a family that isn't known here.

    Raises:
        ConfigError: a `shipped:` name doesn't exist, or a folder's config.json can't be read.
    """
    folder = shipped.resolve(model)
    if (folder / "config.json").is_file():
        return _read_folder(folder)
    known = _table()
    for name in (model, model.removesuffix("-Instruct"), f"{model}-Base"):
        if name.lower() in known:
            return known[name.lower()]
    return None


@cache
def _table() -> dict[str, ModelShape]:
    path = Path(str(resources.files("orz_train"))) / "config" / "shapes.yaml"
    rows: dict[str, Any] = dict(read_tree(path).data)
    return {
        name.lower(): ModelShape(**{"head_dim": row["hidden"] // row["heads"], **row}) for name, row in rows.items()
    }


def _read_folder(folder: Path) -> ModelShape | None:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        if config["model_type"] not in FAMILIES:
            return None
        heads = int(config["num_attention_heads"])
        return ModelShape(
            family=config["model_type"],
            layers=int(config["num_hidden_layers"]),
            hidden=int(config["hidden_size"]),
            heads=heads,
            kv_heads=int(config.get("num_key_value_heads") or heads),
            head_dim=int(config.get("head_dim") or config["hidden_size"] // heads),
            intermediate=int(config["intermediate_size"]),
            vocab=int(config["vocab_size"]),
            tied=bool(config.get("tie_word_embeddings", False)),
        )
    except OSError as error:
        raise ConfigError(f"{display(path)}: cannot be read: {error.strerror}") from error
    except KeyError as error:
        raise ConfigError(f"{display(path)}: has no {error.args[0]!r}; is this a language model?") from error
    except (ValueError, TypeError, ZeroDivisionError) as error:
        raise ConfigError(f"{display(path)}: is no model configuration: {error}") from error
