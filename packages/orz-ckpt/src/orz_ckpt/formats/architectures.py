"""Which tensors a `config.json` promises, and their shapes, for the architectures known here.

Names are those on disk. An architecture that is not in the table gives `UnknownArchitectureError`: what
cannot be derived is never called right.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from orz_ckpt.quoting import brief
from orz_ckpt.strict_json import FieldError, integer_field
from orz_ckpt.tensors.names import HF_HEAD, ORZ_HEAD

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Shape = tuple[int, ...]
Config = dict[str, object]

_MAX_LAYERS: Final = 10_000
_DEFAULT_LABELS: Final = 2
_QWEN3_HEAD_DIM: Final = 128
CRITIC: Final = "CriticModel"
"""The class of ORZ's and OpenRLHF's critics, which they make of any model's when they load it."""
_REWARD_MODELS: Final = ("ForSequenceClassification", "RewardModel")
"""Ends of the names of classes whose head is a critic's, and which give one number a text: transformers, OpenRLHF."""
CRITIC_HEAD_KEY: Final = "value_head_prefix"
"""Where OpenRLHF's `config.json` names its head."""
_RELEASED_ROWS: Final = 8


class UnknownArchitectureError(ValueError):
    """The tensors of this model cannot be derived from its configuration here; the text says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Expected:
    """What the weights of one model look like."""

    architecture: str
    required: Mapping[str, Shape]
    optional: Mapping[str, Shape]
    """Allowed, and of this shape if there: a second copy of a tied head."""
    reshaped: Mapping[str, Shape] = field(default_factory=dict)
    """Required ones of which another shape is right, too."""


def expected_tensors(config: Config) -> Expected:
    """Derive the tensors from a `config.json`.

    Raises:
        UnknownArchitectureError: this table does not know the architecture, a size is not stated, or the weights
            are quantised.
        FieldError: a field that gives a shape is no number.
    """
    architecture = _architecture(config)
    if "quantization_config" in config:
        raise UnknownArchitectureError("the weights are quantised")
    if architecture == CRITIC:
        return _critic(config)
    for family in _FAMILIES:
        if architecture.startswith(family) and architecture.removeprefix(family) in _HEADS:
            head = architecture.removeprefix(family)
            required = _FAMILIES[family](config) if head == "Model" else _inside(config, family)
            heads, optional = _HEADS[head](config, family)
            return Expected(architecture=architecture, required={**required, **heads}, optional=optional)
    raise UnknownArchitectureError(f"{brief(architecture)} is not in the table of known shapes")


def says_critic(config: Mapping[str, object]) -> bool | None:
    """Return whether the class that a `config.json` names is that of a critic; None where its head decides.

    A policy's class decides nothing: verl and trl put a critic's head on it and leave the configuration as it is.
    """
    named = config.get("architectures")
    classes = [name for name in named if isinstance(name, str)] if isinstance(named, list) else []
    if CRITIC in classes:
        return True
    return False if any(name.endswith(_REWARD_MODELS) for name in classes) else None


def critic_head(config: Mapping[str, object]) -> str:
    """Return the module that gives values, as the `config.json` of a critic names it; ORZ's where it names none."""
    head = config.get(CRITIC_HEAD_KEY)
    return head if isinstance(head, str) and head else ORZ_HEAD


def _inside(config: Config, family: str) -> dict[str, Shape]:
    """Return the tensors of a backbone as a model with a head names them."""
    prefix = "gpt_neox" if family == "GPTNeoX" else "model"
    return {f"{prefix}.{name}": shape for name, shape in _FAMILIES[family](config).items()}


def _critic(config: Config) -> Expected:
    """Derive what ORZ saves of a critic (3fdd9a0, `orz/ppo/models.py`): a backbone, and a linear layer to one number.

    The head of the critic released with the 32B model is [8, hidden / 8] (ORZ, issue 63). `mean` and `std` are
    buffers, which are saved where all buffers are.
    """
    kind = config.get("model_type")
    family = _MODEL_TYPES.get(kind) if isinstance(kind, str) else None
    if family is None:
        raise UnknownArchitectureError(f"{CRITIC} of models of type {brief(kind)} is not in the table of known shapes")
    name = f"{critic_head(config)}.weight"
    rows, hidden = _RELEASED_ROWS, _size(config, "hidden_size")
    return Expected(
        architecture=CRITIC,
        required={**_inside(config, family), name: (1, hidden)},
        optional={"mean": (1,), "std": (1,)},
        reshaped={} if hidden % rows else {name: (rows, hidden // rows)},
    )


def _architecture(config: Config) -> str:
    architectures = config.get("architectures")
    if not architectures:
        raise UnknownArchitectureError("config.json names no architecture")
    if not isinstance(architectures, list) or len(architectures) != 1 or not isinstance(architectures[0], str):
        raise UnknownArchitectureError(f"config.json names no single architecture: {brief(architectures)}")
    return architectures[0]


def _llama(config: Config) -> dict[str, Shape]:
    hidden, heads = _size(config, "hidden_size"), _size(config, "num_attention_heads")
    return _decoder(
        config,
        kv_heads=_size(config, "num_key_value_heads", default=heads),
        head_dim=_size(config, "head_dim", default=hidden // heads),
        biases=_biased(config, "attention_bias", "qkvo") + _biased(config, "mlp_bias", "gud"),
    )


def _mistral(config: Config) -> dict[str, Shape]:
    hidden, heads = _size(config, "hidden_size"), _size(config, "num_attention_heads")
    return _decoder(
        config,
        kv_heads=_size(config, "num_key_value_heads"),
        head_dim=_size(config, "head_dim", default=hidden // heads),
        biases="",
    )


def _qwen2(config: Config) -> dict[str, Shape]:
    hidden, heads = _size(config, "hidden_size"), _size(config, "num_attention_heads")
    return _decoder(
        config,
        kv_heads=_size(config, "num_key_value_heads"),
        head_dim=_size(config, "head_dim", default=hidden // heads),
        biases="qkv",
    )


def _qwen3(config: Config) -> dict[str, Shape]:
    head_dim = _size(config, "head_dim", default=_QWEN3_HEAD_DIM)
    shapes = _decoder(
        config,
        kv_heads=_size(config, "num_key_value_heads"),
        head_dim=head_dim,
        biases=_biased(config, "attention_bias", "qkvo"),
    )
    norms = {f"self_attn.{name}_norm.weight": (head_dim,) for name in "qk"}
    return {**shapes, **_per_layer(config, norms)}


def _decoder(config: Config, *, kv_heads: int, head_dim: int, biases: str) -> dict[str, Shape]:
    """Return the tensors of a Llama-like decoder; `biases` holds a letter of each biased projection."""
    hidden, intermediate = _size(config, "hidden_size"), _size(config, "intermediate_size")
    query, key = _size(config, "num_attention_heads") * head_dim, kv_heads * head_dim
    projections = {
        "q": ("self_attn.q_proj", query, hidden),
        "k": ("self_attn.k_proj", key, hidden),
        "v": ("self_attn.v_proj", key, hidden),
        "o": ("self_attn.o_proj", hidden, query),
        "g": ("mlp.gate_proj", intermediate, hidden),
        "u": ("mlp.up_proj", intermediate, hidden),
        "d": ("mlp.down_proj", hidden, intermediate),
    }
    layer: dict[str, Shape] = {
        "input_layernorm.weight": (hidden,),
        "post_attention_layernorm.weight": (hidden,),
        **{f"{name}.weight": (rows, columns) for name, rows, columns in projections.values()},
        **{f"{projections[letter][0]}.bias": (projections[letter][1],) for letter in biases},
    }
    return {
        "embed_tokens.weight": (_size(config, "vocab_size"), hidden),
        **_per_layer(config, layer),
        "norm.weight": (hidden,),
    }


def _gpt_neox(config: Config) -> dict[str, Shape]:
    hidden, intermediate = _size(config, "hidden_size"), _size(config, "intermediate_size")
    layer: dict[str, Shape] = {
        **_layer_norm("input_layernorm", hidden),
        **_layer_norm("post_attention_layernorm", hidden),
        "attention.query_key_value.weight": (3 * hidden, hidden),
        "attention.dense.weight": (hidden, hidden),
        "mlp.dense_h_to_4h.weight": (intermediate, hidden),
        "mlp.dense_h_to_4h.bias": (intermediate,),
        "mlp.dense_4h_to_h.weight": (hidden, intermediate),
        "mlp.dense_4h_to_h.bias": (hidden,),
    }
    if config.get("attention_bias", True):
        layer |= {"attention.query_key_value.bias": (3 * hidden,), "attention.dense.bias": (hidden,)}
    return {
        "embed_in.weight": (_size(config, "vocab_size"), hidden),
        **_per_layer(config, layer),
        **_layer_norm("final_layer_norm", hidden),
    }


def _layer_norm(name: str, hidden: int) -> dict[str, Shape]:
    return {f"{name}.weight": (hidden,), f"{name}.bias": (hidden,)}


def _per_layer(config: Config, layer: Mapping[str, Shape]) -> dict[str, Shape]:
    num_layers = _size(config, "num_hidden_layers")
    if num_layers > _MAX_LAYERS:
        raise FieldError(f"num_hidden_layers: {num_layers:,} is more than any model has")
    return {f"layers.{index}.{name}": shape for index in range(num_layers) for name, shape in layer.items()}


Heads = tuple[dict[str, Shape], dict[str, Shape]]
"""Required and optional tensors."""


def _causal_head(config: Config, family: str) -> Heads:
    name = "embed_out.weight" if family == "GPTNeoX" else "lm_head.weight"
    head: dict[str, Shape] = {name: (_size(config, "vocab_size"), _size(config, "hidden_size"))}
    return ({}, head) if config.get("tie_word_embeddings", False) else (head, {})


def _token_head(config: Config, family: str) -> Heads:
    name, num_labels = "classifier" if family == "GPTNeoX" else HF_HEAD, _num_labels(config)
    head: dict[str, Shape] = {f"{name}.weight": (num_labels, _size(config, "hidden_size"))}
    if family == "GPTNeoX" or config.get("token_classification_bias", True):
        head[f"{name}.bias"] = (num_labels,)
    return head, {}


def _sequence_head(config: Config, family: str) -> Heads:  # noqa: ARG001  one signature for all heads
    return {f"{HF_HEAD}.weight": (_num_labels(config), _size(config, "hidden_size"))}, {}


def _no_head(config: Config, family: str) -> Heads:  # noqa: ARG001  one signature for all heads
    return {}, {}


def _num_labels(config: Config) -> int:
    labels = config.get("id2label")
    count = len(labels) if isinstance(labels, dict) else _DEFAULT_LABELS
    return _size(config, "num_labels", default=count)


def _biased(config: Config, key: str, letters: str) -> str:
    return letters if config.get(key, False) else ""


def _size(config: Config, key: str, *, default: int | None = None) -> int:
    """Return the size at `key`; a missing or null one is `default`, where there is one."""
    if config.get(key) is None:
        if default is None:
            raise UnknownArchitectureError(f"config.json does not state {key}")
        return default
    size = integer_field(config, key)
    if size == 0:
        raise FieldError(f"{key}: expected more than 0")
    return size


_FAMILIES: Final[dict[str, Callable[[Config], dict[str, Shape]]]] = {
    "Llama": _llama,
    "Mistral": _mistral,
    "Qwen2": _qwen2,
    "Qwen3": _qwen3,
    "GPTNeoX": _gpt_neox,
}
_MODEL_TYPES: Final = {
    "llama": "Llama",
    "mistral": "Mistral",
    "qwen2": "Qwen2",
    "qwen3": "Qwen3",
    "gpt_neox": "GPTNeoX",
}
_HEADS: Final[dict[str, Callable[[Config, str], Heads]]] = {
    "ForCausalLM": _causal_head,
    "ForTokenClassification": _token_head,
    "ForSequenceClassification": _sequence_head,
    "Model": _no_head,
}
