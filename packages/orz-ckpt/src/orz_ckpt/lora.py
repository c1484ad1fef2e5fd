"""Merge a LoRA adapter into the weights that it was trained on: `W + scale * B @ A`.

LoRA: Hu et al. 2021, https://arxiv.org/abs/2106.09685, section 4.1. peft 0.21.2 (`tuners/lora/layer.py`,
`get_delta_weight` and `merge`) rounds the product to the type of the factors and then the sum to that of the weights;
here everything is float32 and the sum is rounded once.

The result is a `Source` like any other, whose tensors carry what is to be added (`SourceTensor.plus`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from orz_ckpt.errors import FormatError
from orz_ckpt.findings import finding, milder
from orz_ckpt.quoting import brief, shell_path
from orz_ckpt.readers.peft.config import CONFIG_NAME, AdapterConfig, read_adapter_config
from orz_ckpt.readers.peft.lora_names import PREFIX, Pair, base_name, is_factor, pairs_in
from orz_ckpt.readers.peft.reader import check_adapter
from orz_ckpt.tensors.coverage import check_coverage
from orz_ckpt.tensors.source import LowRank, Piece, Source, SourceTensor
from orz_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from orz_ckpt.findings import CkptFinding

_ADDABLE: Final = ("F32", "F16", "BF16")
_VERL_DIR: Final = "lora_adapter"
"""Where verl keeps the adapter's own files, configuration included."""
_MATRIX: Final = 2


def holds_lora(source: Source) -> bool:
    """Return whether the weights of a checkpoint are still wrapped: base weights and LoRA factors side by side."""
    return source.format != "peft" and any(is_factor(name) for name in source.tensors)


def prepared(source: Source, adapter: Source | None = None, *, alpha: float | None = None) -> Source:
    """Return what a merge of `source` writes, with LoRA added to the weights where that is asked for.

    Args:
        source: the checkpoint.
        adapter: of format `peft`, to be added to it.
        alpha: the numerator of the scale: of `adapter`, or of the factors that stand in `source` itself.

    Raises:
        UsageError: what was given does not go together, or `alpha` is another one than is stated with the factors.
        OSError: a configuration or a factor cannot be read.
    """
    if adapter is not None:
        return with_adapter(source, adapter, alpha=alpha)
    if source.format == "peft":
        remedy = f"name the model that it was trained on: orz ckpt merge BASE OUT --lora {shell_path(source.path)}"
        raise UsageError(f"{source.path} is an adapter, not a model", remedy=remedy)
    if alpha is not None:
        if not holds_lora(source):
            raise UsageError(
                f"--lora-alpha: {source.path} holds no LoRA factors", remedy="give the adapter: --lora DIR"
            )
        return unwrapped(source, alpha=alpha)
    if holds_lora(source):
        message = "it holds LoRA factors beside its base weights: they are written under their own names"
        remedy = "to add them to the weights give the alpha of the training: --lora-alpha N"
        found = finding("lora_inside", message, remedy=remedy, path=source.path)
        return replace(source, findings=(*source.findings, found))
    return source


def with_adapter(base: Source, adapter: Source, *, alpha: float | None = None) -> Source:
    """Return `base` with the update of `adapter` added to its weights.

    Args:
        base: the model that the adapter was trained on.
        adapter: of format `peft`.
        alpha: the numerator of the scale, where the adapter's own is lost, or its whole configuration is.

    Raises:
        UsageError: `adapter` is none, or `base` is one; or `adapter` states another alpha.
        OSError: its configuration cannot be read.
    """
    if adapter.format != "peft" or base.format == "peft":
        wrong, what = (adapter, "no adapter") if adapter.format != "peft" else (base, "an adapter, not its base model")
        raise UsageError(f"{wrong.path} is {what}", remedy="orz ckpt merge BASE OUT --lora ADAPTER")
    pairs = pairs_in(adapter.tensors)
    config = _config(adapter, pairs, alpha)
    findings = [*(adapter.findings if alpha is None else _with_alpha(adapter)), *check_coverage(adapter)]
    merged = replace(base, findings=(*base.findings, *findings), files=(*base.files, *adapter.files))
    if config is None:
        return merged
    whole = {base_name(name): tensor for name, tensor in adapter.tensors.items() if not is_factor(name)}
    unknown = [name for name in whole if name not in base.tensors]
    tensors = {name: replace(whole[name], name=name) if name in whole else old for name, old in base.tensors.items()}
    found = [_unfit(adapter, name, "the base model has no such tensor") for name in unknown]
    return _added(replace(merged, tensors=tensors), adapter, pairs, config, found)


def unwrapped(source: Source, *, alpha: float | None = None) -> Source:
    """Return a checkpoint of a wrapped model as one of the model itself, its LoRA factors added to its weights.

    Args:
        source: with base weights and factors, as FSDP and DeepSpeed save them.
        alpha: the numerator of the scale; where None, verl's `lora_adapter/` beside the shards, or beside the one
            file that was given, has to state it.

    Raises:
        UsageError: the scale is stated nowhere, or is another one than `alpha` says.
        OSError: its configuration cannot be read.
    """
    pairs = pairs_in(source.tensors)
    folder = (source.path if source.path.is_dir() else source.path.parent) / _VERL_DIR
    try:
        config = read_adapter_config(folder)
    except (FileNotFoundError, FormatError):
        config = _told_by_factors(pairs)
    if alpha is not None:
        config = _given(config, alpha, folder / CONFIG_NAME)
    elif config.alpha is None:
        message = f"{source.path} holds LoRA factors, and not the alpha that they were trained with"
        raise UsageError(message, remedy="give it: --lora-alpha N")
    tensors = {
        base_name(name): replace(tensor, name=base_name(name))
        for name, tensor in source.tensors.items()
        if not is_factor(name)
    }
    aliases = {base_name(alias): base_name(name) for alias, name in source.aliases.items() if not is_factor(alias)}
    factors = {name: tensor for name, tensor in source.tensors.items() if is_factor(name)}
    findings = list(check_adapter(source.path, config, factors))
    plain = replace(source, tensors=tensors, aliases=aliases)
    return _added(plain, source, pairs, config, findings)


def _config(adapter: Source, pairs: Mapping[str, Pair], alpha: float | None) -> AdapterConfig | None:
    """Return the settings of an adapter; None where they are lost or unsound, which its findings say."""
    try:
        config = read_adapter_config(adapter.path)
    except FileNotFoundError:
        if alpha is None:
            return None
        config = _told_by_factors(pairs)
    except FormatError:
        return None
    return config if alpha is None else _given(config, alpha, adapter.path / CONFIG_NAME)


def _given(config: AdapterConfig, alpha: float, path: Path) -> AdapterConfig:
    """Return the settings with the alpha that a user gives.

    Args:
        config: the settings, stated in the file `path`, or told by the factors.
        alpha: what is given.
        path: of what states them.

    Raises:
        UsageError: another one is stated.
    """
    if config.alpha and config.alpha != alpha:
        stated = repr(config.alpha).removesuffix(".0")
        message = f"--lora-alpha {repr(alpha).removesuffix('.0')}: {path} says lora_alpha {stated}"
        remedy = f"give that: --lora-alpha {stated}; to merge with another scale, change it there"
        raise UsageError(message, remedy=remedy)
    return config.with_alpha(alpha)


def _told_by_factors(pairs: Mapping[str, Pair]) -> AdapterConfig:
    """Return the settings of factors beside which none are stated: their ranks."""
    ranks = {
        pair.module: pair.right.shape[0]
        for pair in pairs.values()
        if pair.right is not None and pair.right.shape and pair.right.shape[0]
    }
    rank = next(iter(ranks.values()), 1)
    others = {f"^{module}": other for module, other in ranks.items() if other != rank}
    return AdapterConfig(rank=rank, alpha=None, ranks=others)


def _with_alpha(adapter: Source) -> Iterator[CkptFinding]:
    """Yield the findings of an adapter of which the alpha was given: what that leaves open is a warning."""
    for entry in adapter.findings:
        if entry.code == "config_invalid" and not (adapter.path / CONFIG_NAME).is_file():
            message = f"there is no {CONFIG_NAME}: the scale is taken as alpha / rank, as without `use_rslora`"
            remedy = "if it was trained with `use_rslora`, `fan_in_fan_out` or `alpha_pattern`, copy it here, too"
            yield replace(milder(entry), message=message, remedy=remedy)
        elif entry.code != "lora_alpha_lost":
            yield entry


def _added(
    base: Source, adapter: Source, pairs: Mapping[str, Pair], config: AdapterConfig, findings: list[CkptFinding]
) -> Source:
    """Return `base` with the product of each pair to be added; what does not fit is a finding."""
    tensors = dict(base.tensors)
    adapters = {pair.adapter for pair in pairs.values()}
    if len(adapters) > 1:
        message = f"it holds several adapters: {', '.join(map(brief, sorted(adapters)))}"
        findings.append(finding("layout_unsupported", message, remedy="save one of them alone", path=adapter.path))
    for pair in pairs.values() if len(adapters) <= 1 else ():
        name = f"{pair.module}.weight"
        if pair.left is None or pair.right is None or not (pair.left.numel and pair.right.numel):
            continue  # the adapter's own findings say so
        if name not in tensors:
            what = "tied to another tensor" if name in base.aliases else "not in the base model"
            findings.append(_unfit(adapter, name, f"it is {what}"))
            continue
        problem = _problem(tensors[name], pair, config)
        if problem:
            findings.append(_unfit(adapter, name, problem))
        else:
            tensors[name] = replace(tensors[name], plus=_product(pair, config))
    alpha = "not stated" if config.alpha is None else f"{config.alpha:g}"
    facts = {**base.facts, "lora": f"{len(pairs)} updates, rank {config.rank}, alpha {alpha}"}
    return replace(base, tensors=tensors, facts=facts, findings=(*base.findings, *findings))


def _problem(weight: SourceTensor, pair: Pair, config: AdapterConfig) -> str:
    """Return why a pair does not fit a weight; empty where it does."""
    product = _product(pair, config)
    if len(product.left.shape) != _MATRIX or len(product.right.shape) != _MATRIX:
        return "its factors are no matrices: adapters of convolutions are not merged here"
    rank = config.rank_of(pair.module)
    if product.left.shape[1] != rank or product.right.shape[0] != rank:
        ranks = f"{product.left.shape[1]} and {product.right.shape[0]}"
        same = product.left.shape[1] == product.right.shape[0]
        return f"its factors have rank {ranks}, {f'{CONFIG_NAME} says {rank}' if same else 'which have to be equal'}"
    shape = (product.left.shape[0], product.right.shape[1])
    if shape != weight.shape:
        return f"the update is {list(shape)}, the weight {list(weight.shape)}"
    if weight.dtype not in _ADDABLE or not {product.left.dtype, product.right.dtype} <= set(_ADDABLE):
        return f"{weight.dtype} cannot be added to"
    return ""


def _product(pair: Pair, config: AdapterConfig) -> LowRank:
    """Return the update as it is added: turned around where the weight is stored so."""
    if pair.left is None or pair.right is None:
        raise AssertionError(f"{pair.module}: half a pair")
    left, right = pair.left, pair.right
    if pair.embedding or config.fan_in_fan_out:
        left, right = _turned(right), _turned(left)
    return LowRank(left=left, right=right, scale=config.scale(pair.module))


def _turned(tensor: SourceTensor) -> SourceTensor:
    """Return the transpose: the same bytes with other strides."""
    pieces = [
        Piece(
            block=replace(piece.block, shape=piece.block.shape[::-1], strides=piece.block.strides[::-1]),
            start=piece.start[::-1],
        )
        for piece in tensor.pieces
    ]
    return replace(tensor, shape=tensor.shape[::-1], grid=tensor.grid[::-1], pieces=tuple(pieces))


def _unfit(adapter: Source, name: str, problem: str) -> CkptFinding:
    message = f"the update of {brief(name.removeprefix(PREFIX))} does not fit: {problem}"
    remedy = "give the model that the adapter was trained on"
    return finding("lora_unfit", message, remedy=remedy, path=adapter.path, tensor=name)
