"""`adapter_config.json` of a LoRA adapter: what its two factors have to be multiplied with, and what it needs more.

peft 0.21.2, `tuners/lora/config.py` (`LoraConfig`), `tuners/lora/layer.py` (scaling), `utils/other.py`
(`get_pattern_key`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, TypeGuard

from orz_ckpt.errors import FormatError
from orz_ckpt.formats.hf import read_config
from orz_ckpt.quoting import brief
from orz_ckpt.strict_json import FieldError, is_size

if TYPE_CHECKING:
    from pathlib import Path

CONFIG_NAME: Final = "adapter_config.json"

_CHANGING: Final = (
    "use_dora",
    "lora_bias",
    "layer_replication",
    "use_qalora",
    "use_bdlora",
    "target_parameters",
    "trainable_token_indices",
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "monteclora_config",
)
"""Settings that make an adapter something else than `scale * B @ A` for some matrices, wherever they are set."""
_PLAIN_KEY: Final = re.compile(r"\^?[\w.-]+", re.ASCII)


@dataclass(frozen=True, kw_only=True, slots=True)
class AdapterConfig:
    """The settings of one adapter."""

    rank: int
    alpha: float | None
    """None where it is not stated, 0 where it was not known: verl's merger writes that."""
    rank_stabilised: bool = False
    """Divide by the root of the rank instead of the rank."""
    fan_in_fan_out: bool = False
    """The adapted matrices are stored [in, out], as GPT-2's are."""
    ranks: Mapping[str, float] = field(default_factory=dict)
    """Of single modules, by the end of their names."""
    alphas: Mapping[str, float] = field(default_factory=dict)
    base: str = ""
    """Name or path of the model that it was trained on."""
    unsupported: tuple[str, ...] = ()
    """Settings that change what it does in a way that is not known here."""

    def scale(self, module: str) -> float:
        """Return what the product of the factors of a module is multiplied with; 0 where no alpha is stated."""
        rank = _of(self.ranks, module, self.rank)
        return _of(self.alphas, module, self.alpha or 0) / (math.sqrt(rank) if self.rank_stabilised else rank)

    @property
    def alpha_lost(self) -> bool:
        """Whether the scale of the adapter cannot be told from what is stated."""
        return self.alpha is None or not (self.alpha or any(self.alphas.values()))

    def with_alpha(self, alpha: float) -> AdapterConfig:
        """Return the settings with the alpha that a user gives; those of single modules stay, but for a lost 0."""
        kept = {module: number for module, number in self.alphas.items() if number or self.alpha}
        return replace(self, alpha=alpha, alphas=kept)

    def rank_of(self, module: str) -> int:
        """Return the rank of a module's factors."""
        return int(_of(self.ranks, module, self.rank))


def read_adapter_config(folder: Path) -> AdapterConfig:
    """Read `adapter_config.json` in `folder`.

    Raises:
        FormatError: it is no configuration of a LoRA adapter.
        OSError: it cannot be read.
    """
    path = folder / CONFIG_NAME
    document = read_config(path)
    try:
        return _config(document)
    except FieldError as error:
        remedy = "save the adapter again with `save_pretrained` of peft"
        raise FormatError(f"{path}: not the configuration of a LoRA adapter: {error}", remedy=remedy) from None


def _config(document: Mapping[str, object]) -> AdapterConfig:
    kind = document.get("peft_type", "LORA")
    rank, alpha = document.get("r"), document.get("lora_alpha")
    if kind != "LORA":
        raise FieldError(f"peft_type: expected LORA, got {brief(kind)}")
    if not is_size(rank) or rank == 0:
        raise FieldError(f"r: expected a rank above 0, got {brief(rank)}")
    if alpha is not None and not _is_number(alpha):
        raise FieldError(f"lora_alpha: expected a number, got {brief(alpha)}")
    patterns = {key: _pattern(document, key) for key in ("rank_pattern", "alpha_pattern")}
    odd = [key for pattern in patterns.values() for key in pattern if not _PLAIN_KEY.fullmatch(key)]
    base = document.get("base_model_name_or_path")
    return AdapterConfig(
        rank=rank,
        alpha=None if alpha is None else float(alpha),
        rank_stabilised=document.get("use_rslora") is True,
        fan_in_fan_out=document.get("fan_in_fan_out") is True,
        ranks=patterns["rank_pattern"],
        alphas=patterns["alpha_pattern"],
        base=base if isinstance(base, str) and base.isprintable() else "",
        unsupported=(
            *(key for key in _CHANGING if document.get(key)),
            *(f"the pattern {brief(key)}, an expression" for key in odd),
        ),
    )


def _pattern(document: Mapping[str, object], key: str) -> dict[str, float]:
    value = document.get(key) or {}
    if not isinstance(value, Mapping):
        raise FieldError(f"{key}: expected an object, got {brief(value)}")
    for name, number in value.items():
        if not _is_number(number) or (key == "rank_pattern" and (not is_size(number) or number == 0)):
            raise FieldError(f"{key}.{brief(name)}: expected a number above 0, got {brief(number)}")
    return {str(name): number for name, number in value.items()}


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf


def _of(pattern: Mapping[str, float], module: str, default: float) -> float:
    """Return what `pattern` says of a module: by its whole name, or the end of it from a dot on."""
    for key, number in pattern.items():
        plain = key.removeprefix("^")
        if module == plain or (plain == key and module.endswith(f".{plain}")):
            return number
    return default
