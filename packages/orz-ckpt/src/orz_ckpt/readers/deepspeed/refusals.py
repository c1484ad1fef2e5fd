"""Layouts of DeepSpeed that are recognised, and not put together here: what they are, and what to use instead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from orz_ckpt.findings import finding
from orz_ckpt.readers.deepspeed.names import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from orz_ckpt.findings import CkptFinding
    from orz_ckpt.readers.deepspeed.names import Shard
    from orz_ckpt.readers.deepspeed.states import ModelState, OptimizerState

_UNIVERSAL: Final = (
    "convert it with DeepSpeed's own `ds_to_universal.py --input_folder TAG --output_folder OUT`, then give OUT"
)
_GATHER: Final = "load it with the code that trained it, gather its weights there and save them as safetensors"


def by_names(shards: Sequence[Shard]) -> CkptFinding | None:
    """Return why these files are not put together, as far as their names tell; None where nothing is against it."""
    for kind, what, instead in (
        (Kind.EXPERT, "a mixture of experts, each with files of its own", _GATHER),
        (Kind.LAYER, "the layers of a pipeline, whose tensors have only local names", _UNIVERSAL),
    ):
        of_kind = [shard for shard in shards if shard.kind is kind]
        if of_kind:
            return _refuse(f"it holds {what} ({of_kind[0].path.name})", instead, of_kind[0].path)
    sliced = next((shard for shard in shards if shard.model_rank), None)
    if sliced is not None:
        count = max(shard.model_rank for shard in shards) + 1
        return _refuse(f"its tensors are sliced over {count} ranks of tensor parallelism", _UNIVERSAL, sliced.path)
    return None


def by_content(models: Iterable[ModelState], states: Iterable[OptimizerState]) -> CkptFinding | None:
    """Return why these files are not put together, by what they say; None where nothing is against it."""
    for model in models:
        if model.experts:
            instead = _UNIVERSAL if "AutoEP" in model.experts else _GATHER
            return _refuse(f"it holds {model.experts}", instead, model.path)
        if model.model_parallel > 1:
            text = f"its tensors are sliced over {model.model_parallel} ranks of tensor or pipeline parallelism"
            return _refuse(text, _UNIVERSAL, model.path)
        if model.module is None:
            return _refuse("it is of a pipeline, whose layers have files of their own", _UNIVERSAL, model.path)
    for state in states:
        if state.experts:
            return _refuse(f"it holds {state.experts}", _UNIVERSAL, state.path)
        if len(set(state.partitions)) > 1:
            text = f"its groups of weights are spread over {sorted(set(state.partitions))} ranks, as experts are"
            return _refuse(text, _GATHER, state.path)
    return None


def _refuse(text: str, instead: str, path: object) -> CkptFinding:
    return finding("layout_unsupported", text, remedy=instead, path=path)
