"""Models cut into shards: each rank holds its part of every weight."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import deepspeed
from deepspeed.accelerator import get_accelerator
from torch import nn

from orz_train.backends.deepspeed.settings import WEIGHTS_SHARDED, frozen_settings
from orz_train.backends.hf import DTYPES
from orz_train.config.cluster import Cluster


def shard(model: nn.Module, settings: dict[str, Any], *, dtype: str) -> None:
    """Leave this rank with its shard of each weight, on the device; nothing below ZeRO-3.

    A weight at a time: left to itself, DeepSpeed would move the whole model to the device first.
    """
    if settings["zero_optimization"]["stage"] < WEIGHTS_SHARDED:
        return
    deepspeed.zero.Init(module=model, config_dict_or_path=settings, dtype=DTYPES[dtype])
    for buffer in model.buffers():
        buffer.data = buffer.data.to(get_accelerator().current_device_name())


def freeze(model: nn.Module, cluster: Cluster, *, dtype: str) -> nn.Module:
    """Put a model that isn't trained where it computes: in shards under ZeRO-3, else whole on every rank."""
    model.requires_grad_(requires_grad=False)
    if cluster.zero_stage < WEIGHTS_SHARDED:
        return model.to(get_accelerator().current_device_name())
    settings = frozen_settings(cluster, dtype=dtype, longest_vector=longest_vector(model))
    shard(model, settings, dtype=dtype)
    frozen: nn.Module
    frozen, *_ = deepspeed.initialize(model=model, config=settings)
    frozen.eval()
    return frozen


def padding(parameters: Sequence[nn.Parameter], rank: int) -> Iterator[tuple[int, int]]:
    """Yield where in the slices of a rank, one behind the other, elements lie that are no parameter's: begin and end.

    Args:
        parameters: of one sub-group, as ZeRO-3 cut them.
        rank: whose slices; the last ranks' are longer than what is left for them.
    """
    begin = 0
    for parameter in parameters:
        size: int = parameter.partition_numel()  # type: ignore[attr-defined]  # DeepSpeed's
        held = min(max(parameter.ds_numel - rank * size, 0), size)  # type: ignore[attr-defined]  # DeepSpeed's
        if held < size:
            yield begin + held, begin + size
        begin += size


def longest_vector(model: nn.Module) -> int:
    """Count the elements of the largest bias or norm, before the model is cut."""
    return max((math.prod(parameter.shape) for parameter in model.parameters() if parameter.ndim <= 1), default=0)
