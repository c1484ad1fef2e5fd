"""Critics between two layouts: ORZ's `CriticModel` and transformers' token classifiers with one label.

ORZ (3fdd9a0), `orz/ppo/models.py`: the backbone under its own name (`model.*`) and `value_head`, a linear layer to one
number without bias; `config.json` names `CriticModel`, a class that ORZ makes when it loads. The critic that was
released for the 32B model holds the head as [8, hidden / 8]; its numbers are those of [1, hidden] row by row (ORZ,
issue 63). transformers 5.19, `modeling_layers.py`: `GenericForTokenClassification` has the same backbone names and
`score`, whose bias and dropout the configuration switches off: that is what orz-train saves.

What a conversion changes is names, one shape and `config.json`; every number stays. A model without a value head is
written as it is, so that `--to hf` takes any checkpoint; so is a reward model, which `--to orz-critic` makes a critic.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from orz_ckpt.errors import FormatError
from orz_ckpt.findings import finding
from orz_ckpt.formats.architectures import CRITIC, CRITIC_HEAD_KEY, critic_head, says_critic
from orz_ckpt.formats.hf import CONFIG_NAME, read_config
from orz_ckpt.lora import holds_lora, prepared
from orz_ckpt.merge.run import Options, merge
from orz_ckpt.quoting import brief, shell_path
from orz_ckpt.readers.config_place import config_folder
from orz_ckpt.strict_json import is_size
from orz_ckpt.tensors.floats import FLOATS, largest_magnitude
from orz_ckpt.tensors.gather import Files, Gatherer
from orz_ckpt.tensors.names import HF_HEAD, ORZ_HEAD, VALUE_HEADS, is_value_head
from orz_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from orz_ckpt.findings import CkptFinding
    from orz_ckpt.merge.run import Merged
    from orz_ckpt.tensors.source import Source, SourceTensor
    from orz_ckpt.watch import Progress

    Config = Mapping[str, object]


class Layout(StrEnum):
    """How the output names its value head."""

    HF = "hf"
    """`score`, a ForTokenClassification model with one label."""
    ORZ_CRITIC = "orz-critic"
    """`value_head`, ORZ's CriticModel."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Converted:
    """What a merge is to write."""

    source: Source
    settings: Mapping[str, object] = field(default_factory=dict)
    """What to lay over `config.json`; None removes a key."""


_WRAPPER: Final = "pretrained_model."
"""trl puts the whole language model under this name."""
_LANGUAGE_HEAD: Final = "lm_head.weight"
_ORZ_KEYS: Final = ("normalize_reward", CRITIC_HEAD_KEY, "mean", "std")
_LABEL_KEYS: Final = ("id2label", "label2id", "num_labels", "token_classification_bias", "classifier_dropout")
_FAMILIES: Final = {
    "deepseek_v3": "DeepseekV3",
    "gemma": "Gemma",
    "gemma2": "Gemma2",
    "glm": "Glm",
    "glm4": "Glm4",
    "gpt_oss": "GptOss",
    "llama": "Llama",
    "mistral": "Mistral",
    "mixtral": "Mixtral",
    "phi": "Phi",
    "phi3": "Phi3",
    "qwen2": "Qwen2",
    "qwen2_moe": "Qwen2Moe",
    "qwen3": "Qwen3",
    "qwen3_moe": "Qwen3Moe",
    "seed_oss": "SeedOss",
    "smollm3": "SmolLM3",
    "stablelm": "StableLm",
    "starcoder2": "Starcoder2",
}
"""`model_type` -> beginning of its class names in transformers 5.19, where its token classifier is the generic one."""


def convert_checkpoint(
    source: Source, out: Path, layout: Layout, options: Options | None = None, *, progress: Progress | None = None
) -> Merged:
    """Write `source` to `out` in another layout, as `merge` writes a folder.

    Raises:
        UsageError: it is an adapter; there is no value head for ORZ's layout; or `options.config` is no model folder.
        CkptError, OSError: see `merge.run.merge`.
    """
    options = options or Options()
    folder = config_folder(source, options.config)
    try:
        config = read_config(folder / CONFIG_NAME) if folder else None
    except FormatError:
        config = None  # merge says so
    converted = convert(_with_lora_told(source), layout, config)
    command = ("convert", "--to", layout.value, *options.command[1:])
    options = replace(options, settings=converted.settings, command=command)
    return merge(converted.source, out, options, progress=progress)


def convert(source: Source, layout: Layout, config: Config | None) -> Converted:
    """Return `source` with the names and shapes of `layout`, and what its configuration has to say.

    Args:
        source: the checkpoint.
        layout: what to make of it.
        config: its `config.json`; None where there is none.

    Raises:
        UsageError: there is no value head for ORZ's layout.
        OSError: the head's bias cannot be read.
    """
    plain = _without_tied_head(_unwrapped(source))
    known = tuple(dict.fromkeys((critic_head(config or {}), *VALUE_HEADS)))
    head = next((name for name in known if f"{name}.weight" in plain.tensors), None)
    if head is None:
        if layout is Layout.ORZ_CRITIC:
            heads = ", ".join(brief(f"{name}.weight") for name in known)
            if holds_lora(source):
                message = f"{source.path} holds LoRA factors beside its base weights, and none of {heads}"
                raise UsageError(message, remedy=_merge_first(source))
            message = f"{source.path} is no critic: it has none of {heads}"
            raise UsageError(message, remedy="give the folder of the critic; `--to hf` writes a policy")
        return Converted(source=source)
    if layout is Layout.HF and says_critic(config or {}) is False:
        return Converted(source=source)
    wanted = HF_HEAD if layout is Layout.HF else ORZ_HEAD
    tensors, findings = _renamed(plain, head, wanted, config)
    if layout is Layout.ORZ_CRITIC:
        findings += _without_bias(plain, tensors)
        settings = {"architectures": [CRITIC], "normalize_reward": True, CRITIC_HEAD_KEY: None}
        settings |= dict.fromkeys(_LABEL_KEYS)
    else:
        found, settings = _classifier(source, config or {}, bias=f"{HF_HEAD}.bias" in tensors)
        findings += found
    aliases = {alias: name for alias, name in plain.aliases.items() if alias != _LANGUAGE_HEAD}
    converted = replace(plain, tensors=tensors, aliases=aliases, findings=(*plain.findings, *findings))
    return Converted(source=converted, settings=settings)


def _with_lora_told(source: Source) -> Source:
    """Return `source` with a warning of LoRA factors in it, which are written under their own names.

    Raises:
        UsageError: it is an adapter, which no loader takes for a model.
    """
    told = (
        replace(entry, remedy=_merge_first(source)) if entry.code == "lora_inside" else entry
        for entry in prepared(source).findings
    )
    return replace(source, findings=tuple(dict.fromkeys(told)))


def _merge_first(source: Source) -> str:
    command = f"orz ckpt merge {shell_path(source.path)} MERGED --lora-alpha N"
    return f"to add them to the weights merge it first, with the alpha of the training ({command}), and convert MERGED"


def _without_tied_head(source: Source) -> Source:
    """Return `source` with the numbers of a tied pair under the embedding's name, for the head's is left out."""
    others = [alias for alias, name in source.aliases.items() if name == _LANGUAGE_HEAD]
    if not others:
        return source
    home = others[0]
    tensors = {
        home if name == _LANGUAGE_HEAD else name: replace(tensor, name=home) if name == _LANGUAGE_HEAD else tensor
        for name, tensor in source.tensors.items()
    }
    aliases = {
        alias: home if name == _LANGUAGE_HEAD else name for alias, name in source.aliases.items() if alias != home
    }
    return replace(source, tensors=tensors, aliases={**aliases, _LANGUAGE_HEAD: home})


def _unwrapped(source: Source) -> Source:
    """Return `source` without trl's wrapper around the names."""
    if not any(name.startswith(_WRAPPER) for name in source.tensors):
        return source
    tensors = {
        name.removeprefix(_WRAPPER): replace(tensor, name=name.removeprefix(_WRAPPER))
        for name, tensor in source.tensors.items()
    }
    aliases = {alias.removeprefix(_WRAPPER): name.removeprefix(_WRAPPER) for alias, name in source.aliases.items()}
    return replace(source, tensors=tensors, aliases=aliases)


def _renamed(
    source: Source, head: str, wanted: str, config: Config | None
) -> tuple[dict[str, SourceTensor], list[CkptFinding]]:
    """Return the tensors with the head under its new name, as one row, and without that of a language model."""
    findings: list[CkptFinding] = []
    tensors: dict[str, SourceTensor] = {}
    hidden = (config or {}).get("hidden_size")
    taken = sorted({f"{wanted}.weight", f"{wanted}.bias"} & source.tensors.keys()) if wanted != head else []
    taken += [name for name in _other_heads(source, head) if name not in taken]
    if taken:
        message = f"it has {brief(taken[0])} beside {brief(f'{head}.weight')}: two value heads, and a critic has one"
        remedy = "keep the one that was trained, and convert again"
        findings.append(finding("layout_unsupported", message, remedy=remedy, path=source.path, tensor=taken[0]))
    for name, tensor in source.tensors.items():
        if name == f"{head}.weight":
            row = (1, tensor.numel)
            if is_size(hidden) and tensor.numel != hidden:
                message = f"{brief(name)} is {list(tensor.shape)}, and a value head has [1, {hidden}] numbers"
                found = finding("shape_differs", message, remedy="give a critic", path=source.path, tensor=name)
                findings.append(found)
            elif tensor.shape != row:
                message = f"{brief(name)} is {list(tensor.shape)}: its numbers are taken row by row as {list(row)}"
                findings.append(finding("head_reshaped", message, path=source.path, tensor=name))
            tensors[f"{wanted}.weight"] = replace(tensor, name=f"{wanted}.weight", shape=row)
        elif name == f"{head}.bias":
            tensors[f"{wanted}.bias"] = replace(tensor, name=f"{wanted}.bias", shape=(tensor.numel,))
        elif name == _LANGUAGE_HEAD:
            message = f"{name} is left out: a critic has no use for the head of a language model"
            findings.append(finding("head_dropped", message, path=source.path, tensor=name))
        else:
            tensors[name] = tensor
    return tensors, findings


def _other_heads(source: Source, head: str) -> list[str]:
    """Return the weights of value heads beside the one of the module `head`."""
    names = (f"{module}.weight" for module in VALUE_HEADS if module != head)
    return [name for name in names if name in source.tensors and is_value_head(name, source.tensors[name].shape)]


def _without_bias(source: Source, tensors: dict[str, SourceTensor]) -> list[CkptFinding]:
    """Take the bias of the head out, which ORZ's has not; one that is not zero cannot be left out."""
    bias = tensors.pop(f"{ORZ_HEAD}.bias", None)
    if bias is None:
        return []
    with Files() as files:
        data = memoryview(bytearray(bias.nbytes))
        Gatherer(files).read(bias, 0, bias.numel, data)
    if bias.dtype in FLOATS and not largest_magnitude(data, FLOATS[bias.dtype]):
        return []
    message = "the value head has a bias that is not 0, and ORZ's has none"
    remedy = "keep it as a token classifier, or train a head without bias"
    return [finding("layout_unsupported", message, remedy=remedy, path=source.path, tensor=bias.name)]


def _classifier(source: Source, config: Config, *, bias: bool) -> tuple[list[CkptFinding], dict[str, object]]:
    """Return the settings of a token classifier with one label, and what speaks against them."""
    settings: dict[str, object] = {
        "id2label": {"0": "LABEL_0"},
        "label2id": {"LABEL_0": 0},
        "num_labels": None,
        "token_classification_bias": bias,
        "classifier_dropout": 0.0,
        **dict.fromkeys(_ORZ_KEYS),
    }
    findings = []
    mean, std = config.get("mean") or 0, config.get("std") or 1
    if (mean, std) != (0, 1):
        message = f"config.json normalises the values, with mean {brief(mean)} and standard deviation {brief(std)}"
        remedy = "fold both into the head, or set them to 0 and 1"
        findings.append(finding("layout_unsupported", message, remedy=remedy, path=source.path))
    kind = config.get("model_type")
    family = _FAMILIES.get(kind) if isinstance(kind, str) else None
    if family:
        settings["architectures"] = [f"{family}ForTokenClassification"]
    elif config:
        message = f"no token classifier is known here for models of type {brief(kind)}"
        remedy = "convert it to safetensors with `orz ckpt merge`, and adapt config.json by hand"
        findings.append(finding("layout_unsupported", message, remedy=remedy, path=source.path))
    return findings, settings
