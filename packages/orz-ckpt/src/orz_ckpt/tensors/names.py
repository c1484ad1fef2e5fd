"""What a tensor's name says: which layer it is of, which part of a layer, and whether it is an embedding or a head."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

HEADS: Final = ("lm_head.weight", "embed_out.weight", "output.weight", "lm_head.decoder.weight", "cls.decoder.weight")
"""Ends of the names of output layers: of a tied pair the one that Hugging Face files leave out."""
EMBEDDINGS: Final = ("embed_tokens.weight", "embed_in.weight", "wte.weight", "word_embeddings.weight")
"""Ends of the names of embeddings."""
ORZ_HEAD: Final = "value_head"
"""The module that ORZ's critics, and older ones of OpenRLHF, give values with."""
HF_HEAD: Final = "score"
"""That of transformers' token and sequence classifiers, and of OpenRLHF."""
VALUE_HEADS: Final = (ORZ_HEAD, "v_head.summary", "v_head", HF_HEAD, "critic")
"""Modules that give values, the likelier first: besides those, trl's (older ones have no `summary` in it), and `critic`
of home-made models."""
OUTSIDE: Final = -1
"""The layer of tensors that belong to none."""

_LAYER: Final = re.compile(r"(?:^|\.)(?:layers?|h|blocks?)\.(\d+)\.", re.ASCII)
_NORM: Final = re.compile(r"[a-z0-9_]*norm[0-9]*|ln(?:_[a-z0-9]+)?", re.ASCII | re.IGNORECASE)
"""What a norm is called in the module that it is a part of."""
_NUMBER: Final = re.compile(r"(?<=\.)\d+(?=\.)", re.ASCII)


def layer_of(name: str) -> int:
    """Return the number of the layer, `OUTSIDE` where there is none. `model.layers.3.mlp.up_proj.weight`: 3."""
    match = _LAYER.search(name)
    return int(match[1]) if match else OUTSIDE


def is_norm(name: str) -> bool:
    """Return whether the tensor is what a norm multiplies by: `model.norm.weight`, `h.0.ln_1.weight`."""
    *_, module, last = ("", *name.split("."))
    return last == "weight" and _NORM.fullmatch(module) is not None


def is_value_head(name: str, shape: Sequence[int]) -> bool:
    """Return whether the tensor is a critic's output layer, which gives one number a token.

    Args:
        name: under which it was saved.
        shape: one row; of ORZ's `value_head` any, for the critic released with its 32B model has [8, hidden / 8].
    """
    single = len(shape) == 2 and shape[0] == 1  # noqa: PLR2004  a matrix of one row
    inside = f".{name}"
    return any(inside.endswith(f".{head}.weight") and (single or head == ORZ_HEAD) for head in VALUE_HEADS)


def module_of(name: str) -> str:
    """Return what the tensor is in any layer, experts alike. `model.layers.3.mlp.up_proj.weight`: `mlp.up_proj.weight`.

    The name of a tensor outside the layers is returned as it is.
    """
    match = _LAYER.search(name)
    return _NUMBER.sub("*", name[match.end() :]) if match else name
