"""Loading models: for a policy, critic or reward model with weights, for a sampler names and shapes alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForTokenClassification
from transformers.utils.hub import cached_file

from orz_train.backends.hf.explained import explained
from orz_train.backends.hf.switched_off import switch_off
from orz_train.backends.precision import multiply_bfloat16_in_float32
from orz_train.config import shipped
from orz_train.errors import DataError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def load_causal_lm(model: str, *, dtype: str, trust_remote_code: bool = False) -> nn.Module:
    """Load a language model for packed rows: SDPA, no dropout, eval mode.

    Raises:
        BackendMissingError: the code for it can't be imported.
        DataError: the folder or name can't be loaded.
    """
    with explained(model, "model"):
        loaded = AutoModelForCausalLM.from_pretrained(
            model,
            dtype=_torch_dtype(dtype),
            attn_implementation="sdpa",
            trust_remote_code=trust_remote_code,
            local_files_only=True,
        )
    return switch_off(loaded)


def load_critic(model: str, *, dtype: str, trust_remote_code: bool = False) -> nn.Module:
    """Load a backbone with a value head: a token classifier with one label, no dropout, no bias.

    From a language model the head is new and 0, so values start at 0; from a saved critic it is the saved one.

    Raises:
        BackendMissingError: the code for it can't be imported.
        DataError: the folder or name can't be loaded.
    """
    loaded, _ = _token_classifier(model, "critic", dtype=dtype, trust_remote_code=trust_remote_code)
    had_head = any("ForTokenClassification" in name for name in loaded.config.architectures or ())
    head = value_head(loaded)
    if not had_head:
        nn.init.zeros_(head.weight)
    if head.bias is not None:  # a family that hard-codes one, such as GPT-NeoX: it stays 0 and untrained
        nn.init.zeros_(head.bias)
        head.bias.requires_grad_(False)
    return switch_off(loaded)


def load_reward_model(model: str, *, dtype: str, trust_remote_code: bool = False) -> nn.Module:
    """Load a classifier with one label, of sequences or tokens, to score the last token of each packed sequence.

    Raises:
        BackendMissingError: the code for it can't be imported.
        DataError: the folder or name can't be loaded, or has no such head.
    """
    loaded, missing = _token_classifier(model, "reward model", dtype=dtype, trust_remote_code=trust_remote_code)
    if missing:
        raise DataError(
            f"reward model {model}: expected a classifier with one label, got a model without"
            f" {', '.join(sorted(missing))}",
            remedy="give a folder whose config.json says ...ForSequenceClassification and num_labels 1",
        )
    return switch_off(loaded)


def value_head(model: nn.Module) -> nn.Linear:
    """Return the head of a token classifier, whatever its family calls it."""
    head = getattr(model, "score", None) or getattr(model, "classifier", None)
    assert isinstance(head, nn.Linear)  # noqa: S101  # every token classifier of transformers has one
    return head


@dataclass(frozen=True, kw_only=True, slots=True)
class Skeleton:
    """A language model without its weights."""

    shapes: Mapping[str, tuple[int, ...]]
    """Of its parameters, by name; a head tied to the embedding isn't one."""
    vocab_size: int
    """Rows of the embedding; may be more than the tokenizer's ids."""


def load_skeleton(model: str, *, trust_remote_code: bool = False) -> Skeleton:
    """Read a language model's names and shapes from its configuration alone.

    Raises:
        BackendMissingError: the code for it can't be imported.
        DataError: the folder or name can't be loaded.
    """
    with explained(model, "model"):
        config = AutoConfig.from_pretrained(model, trust_remote_code=trust_remote_code, local_files_only=True)
        with torch.device("meta"):
            built = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)  # type: ignore[no-untyped-call]  # transformers has no types here
    return Skeleton(
        shapes={name: tuple(parameter.shape) for name, parameter in built.named_parameters()},
        vocab_size=built.get_input_embeddings().num_embeddings,
    )


def local_folder(model: str) -> Path:
    """Return the folder of a model: its own, the one that comes with orz-train, or the hub's in the local cache.

    Raises:
        DataError: the name isn't in the local cache.
    """
    path = shipped.resolve(model)
    if path.is_dir() or model.startswith((".", "/", "~")):
        return path
    with explained(model, "model"):
        return Path(str(cached_file(model, "config.json", local_files_only=True))).parent


def _torch_dtype(dtype: str) -> torch.dtype:
    """Return torch's name of a precision, and see to it that this process multiplies in it as well as it can."""
    if dtype == "bfloat16":
        multiply_bfloat16_in_float32()
    return DTYPES[dtype]


def _token_classifier(model: str, what: str, *, dtype: str, trust_remote_code: bool) -> tuple[Any, set[str]]:
    """Load a backbone with a head of one label; also return the names of the weights that the folder lacks."""
    with explained(model, what):
        config = AutoConfig.from_pretrained(
            model, num_labels=1, trust_remote_code=trust_remote_code, local_files_only=True
        )
        config.classifier_dropout = 0.0  # of the head, as is the bias: a value is one product with a hidden state
        config.token_classification_bias = False
        loaded, info = AutoModelForTokenClassification.from_pretrained(
            model,
            config=config,
            dtype=_torch_dtype(dtype),
            attn_implementation="sdpa",
            trust_remote_code=trust_remote_code,
            local_files_only=True,
            output_loading_info=True,
        )
    return loaded, set(info["missing_keys"])
