"""The pairs of LoRA factors among the names of a checkpoint.

peft 0.21.2 wraps a model as `base_model.model`, an adapted module `M` into `M.base_layer`, `M.lora_A.<adapter>` and
`M.lora_B.<adapter>` (embeddings: `M.lora_embedding_A.<adapter>`). Its own files leave `<adapter>` out; files that hold
the whole wrapped model (FSDP, DeepSpeed) keep it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orz_ckpt.tensors.source import SourceTensor

LEFT: Final = "B"
PREFIX: Final = "base_model.model."
BASE_LAYER: Final = ".base_layer."
_FACTOR: Final = re.compile(
    r"(?P<module>.+)\.lora_(?P<embedding>embedding_)?(?P<factor>[AB])(?P<adapter>\.(?!(?:weight|bias)$)[^.]+)?(\.weight)?"
)
_COPIED: Final = re.compile(r"\.(modules_to_save)\.[^.]+\.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """The factors of one module's update, as they are stored."""

    module: str
    """Its name in the model that was adapted: `model.layers.0.self_attn.q_proj`."""
    right: SourceTensor | None
    """A, [rank, in]."""
    left: SourceTensor | None
    """B, [out, rank]."""
    embedding: bool = False
    """The product is [embedding, number of tokens], the other way round than the matrix."""
    adapter: str = ""
    """Its name; empty where the file leaves it out."""


def pairs_in(tensors: Mapping[str, SourceTensor]) -> dict[str, Pair]:
    """Return the pairs of factors by module and adapter, in the order of `tensors`."""
    found: dict[str, dict[str, SourceTensor]] = {}
    kinds: dict[str, tuple[str, bool, str]] = {}
    for name, tensor in tensors.items():
        match = _FACTOR.fullmatch(name)
        if match:
            adapter = (match["adapter"] or "").removeprefix(".")
            module = base_name(match["module"])
            key = f"{module} {adapter}"
            found.setdefault(key, {})[match["factor"]] = tensor
            kinds[key] = (module, bool(match["embedding"]), adapter)
    return {
        key: Pair(
            module=kinds[key][0],
            right=factors.get("A"),
            left=factors.get("B"),
            embedding=kinds[key][1],
            adapter=kinds[key][2],
        )
        for key, factors in found.items()
    }


def is_factor(name: str) -> bool:
    """Return whether a name is that of a factor of LoRA."""
    return _FACTOR.fullmatch(name) is not None


def base_name(name: str) -> str:
    """Return the name that a tensor or module of a wrapped model has in the model itself."""
    plain = _COPIED.sub(".", name.removeprefix(PREFIX).replace(BASE_LAYER, "."))
    return plain.removesuffix(".base_layer")
