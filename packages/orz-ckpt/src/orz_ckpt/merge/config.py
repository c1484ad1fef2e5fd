"""`config.json` as it must be for the weights that are written."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from orz_ckpt.formats.architectures import CRITIC, CRITIC_HEAD_KEY
from orz_ckpt.tensors.cast import TORCH_NAMES
from orz_ckpt.tensors.names import EMBEDDINGS, HEADS, HF_HEAD, is_value_head

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orz_ckpt.merge.plan import Plan

_CAUSAL: Final = "ForCausalLM"
_TOKENS: Final = "ForTokenClassification"


def adapted(config: dict[str, object], plan: Plan) -> dict[str, object]:
    """Return `config` with type, tying and architecture of what `plan` writes; the rest stays as it is."""
    changed = dict(config)
    _set_dtype(changed, plan)
    if any(alias.endswith(HEADS) and name.endswith(EMBEDDINGS) for alias, name in plan.aliases.items()):
        changed["tie_word_embeddings"] = True
    _set_head(changed, plan)
    return changed


def untied(config: Mapping[str, object], plan: Plan, digests: Mapping[str, str]) -> bool:
    """Return whether `config` ties head and embedding although both are written and differ.

    Args:
        config: what would be written.
        plan: what is written.
        digests: of each tensor's bytes.
    """
    head = next((tensor for tensor in plan.tensors if tensor.name.endswith(HEADS)), None)
    embedding = next((tensor for tensor in plan.tensors if tensor.name.endswith(EMBEDDINGS)), None)
    return (
        bool(config.get("tie_word_embeddings"))
        and head is not None
        and embedding is not None
        and digests[head.name] != digests[embedding.name]
    )


def value_heads(plan: Plan) -> list[str]:
    """Return the names of heads that give one number a token: those of a critic."""
    return [tensor.name for tensor in plan.tensors if is_value_head(tensor.name, tensor.shape)]


def _set_dtype(config: dict[str, object], plan: Plan) -> None:
    """State the type that most of the weights are of, under the key that is there; transformers 5 says `dtype`."""
    sizes: Counter[str] = Counter()
    for tensor in plan.tensors:
        if tensor.dtype in TORCH_NAMES:
            sizes[TORCH_NAMES[tensor.dtype]] += tensor.nbytes
    if not sizes:
        return
    name = sizes.most_common(1)[0][0]
    stated = {"dtype", "torch_dtype"} & config.keys() or {"torch_dtype"}
    config.update(dict.fromkeys(sorted(stated), name))
    for key, value in config.items():
        if isinstance(value, dict) and key.endswith("_config"):
            inner = {part: name for part in ("dtype", "torch_dtype") if value.get(part) in TORCH_NAMES.values()}
            config[key] = {**value, **inner}


def _set_head(config: dict[str, object], plan: Plan) -> None:
    """Name a critic's architecture where the configuration is still that of the language model it came from."""
    heads = value_heads(plan)
    architectures = config.get("architectures")
    names = {tensor.name for tensor in plan.tensors} | plan.aliases.keys()
    if (
        not heads
        or any(name.endswith(HEADS) for name in names)
        or not isinstance(architectures, list)
        or len(architectures) != 1
        or not str(architectures[0]).endswith(_CAUSAL)
    ):
        return
    if heads != [f"{HF_HEAD}.weight"]:
        config["architectures"] = [CRITIC]  # ORZ's own class; no loader of Hugging Face knows such a head
        config[CRITIC_HEAD_KEY] = heads[0].removesuffix(".weight")
        return
    config["architectures"] = [str(architectures[0]).removesuffix(_CAUSAL) + _TOKENS]
    config["id2label"], config["label2id"] = {"0": "LABEL_0"}, {"LABEL_0": 0}
    config["token_classification_bias"] = f"{HF_HEAD}.bias" in names
