"""The shards of one tag put together: who is missing, which stage it is, where each tensor comes from."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Literal

from orz_ckpt.findings import finding
from orz_ckpt.readers.deepspeed import agreement, ties, zero0, zero3, zero12
from orz_ckpt.readers.deepspeed.ends import check_ends
from orz_ckpt.readers.deepspeed.names import Kind, Shard
from orz_ckpt.readers.deepspeed.padding import packed_fragments, packed_partitions, packed_slices
from orz_ckpt.report.words import listed, spans
from orz_ckpt.tensors.source import Source, SourceTensor, whole
from orz_ckpt.tensors.stamps import Stamps

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from orz_ckpt.findings import CkptFinding
    from orz_ckpt.readers.deepspeed.loading import Loaded
    from orz_ckpt.readers.deepspeed.states import ModelState, OptimizerState, Shapes
    from orz_ckpt.tensors.source import Packed

    Tensors = dict[str, SourceTensor]

Prefer = Literal["master", "module"]
"""The fp32 weights, or those that the forward pass computes with."""

_WEIGHTS_SHARDED: Final = 3
_EXTRA_STATE: Final = "_extra_state"
"""What torch calls in a state dict what a module's `get_extra_state` returns."""
_MAX_NAMED: Final = 3
_REMEDY: Final = "look for it with `orz ckpt locate`; rank 0 writes it, to its own node where nodes share no disk"
_OTHERS: Final = "move the files of the other save out of this folder"
_WHY_COPIES_DIFFER: Final = frozenset({"steps_mixed", "rank_differs"})


def assemble(folder: Path, files: Sequence[Shard], loaded: Loaded, prefer: Prefer) -> Source:
    """Return the tensors of one tag, and what is wrong with its files."""
    stage = _stage(loaded)
    world, states, findings = _ranks(files, loaded, stage)
    models = _models(loaded, stage, world)
    model = next(iter(models.values()), None)
    findings += agreement.other_ranks((*models.values(), *states.values()))
    findings += agreement.disagreements(models, states)
    if stage == _WEIGHTS_SHARDED:
        findings += agreement.compare_counts(list(models.values()), states)
    findings += _other_stage(files, stage)
    findings += _missing(folder, loaded, stage, world, module=prefer == "module" and model is not None)
    tensors: Tensors = {}
    aliases: dict[str, str] = {}
    packed: tuple[Packed, ...] = ()
    if model is None:
        pattern = "zero_pp_rank_*_model_states.pt" if stage == _WEIGHTS_SHARDED else "mp_rank_00_model_states.pt"
        text = f"{pattern} is not here, or is broken; it names the weights"
        findings.append(finding("model_states_missing", text, remedy=_REMEDY, path=folder))
    else:
        shapes = _shapes(model, states)
        owned = {name: shape for group in shapes for name, shape in group.items()}
        if stage == _WEIGHTS_SHARDED:
            aliases = ties.as_stated(model, owned)
            tensors, wrong = _sharded(models, shapes, states, world)
            packed = (*packed_slices(shapes, states, world), *packed_fragments(models, world))
        else:
            packed = tuple(packed_partitions(shapes, states, world))
            aliases = ties.in_module(model, owned)
            tensors, wrong = _whole(model, shapes, states, world, prefer, aliases)
            if not any(entry.code in _WHY_COPIES_DIFFER for entry in findings):
                wrong += _of_one_save(model, shapes, states, world)
        findings += wrong
        tensors = in_order(tensors | _without_elements(model, owned), model, aliases)
        if 0 in models:  # else ties are not known
            known = {*tensors, *aliases, *owned, *model.frozen_shapes}
            findings += [*_left_empty(model, known), *_left_out(model, known)]
    return Source(
        path=folder,
        format=f"deepspeed-zero{stage}",
        tensors=tensors,
        aliases={alias: name for alias, name in aliases.items() if name in tensors},
        step=None if model is None else model.step,
        world_size=world or (model.world_size if model else None),
        writer=writer(models.values(), states.values()),
        facts=_facts(stage, states, tensors, model),
        frozen=() if model is None else tuple(model.frozen_shapes),
        packed=packed,
        stamps=_stamps(models, states, stage),
        findings=tuple(findings),
    )


def _stamps(models: Mapping[int, ModelState], states: Mapping[int, OptimizerState], stage: int) -> Stamps:
    """Return what the files count. ZeRO-1 and ZeRO-2 have the model's file compared with the optimizers beside it."""
    return Stamps(
        shards=tuple(sorted({*states, *(models if stage == _WEIGHTS_SHARDED or not states else ())})),
        counts={"optimizer": {rank: state.step for rank, state in states.items() if state.step is not None}},
        others={"model": {rank: model.step for rank, model in models.items() if model.step is not None}},
    )


def in_order(tensors: Mapping[str, SourceTensor], model: ModelState, aliases: Collection[str] = ()) -> Tensors:
    """Return tensors in the order of the module, without other names of tied ones."""
    names = dict.fromkeys([*(model.module or {}), *tensors])
    return {name: tensors[name] for name in names if name in tensors and name not in aliases}


def writer(models: Collection[ModelState], states: Collection[OptimizerState] = ()) -> str:
    """Return who wrote the files; empty where they do not say."""
    versions = [model.version for model in models] + [state.version for state in states]
    version = next(filter(None, versions), "")
    return f"deepspeed {version}" if version else ""


def _stage(loaded: Loaded) -> int:
    """Return the ZeRO stage; that of BF16_Optimizer, which does not say, is 1."""
    if loaded.states:
        return next(iter(loaded.states.values())).stage or 1
    if loaded.model_shards:
        return _WEIGHTS_SHARDED
    model = loaded.model
    if model is None or model.shapes is None:
        return 1 if model is None else 0
    return model.configured_stage or 1


def _ranks(
    files: Sequence[Shard], loaded: Loaded, stage: int
) -> tuple[int, dict[int, OptimizerState], list[CkptFinding]]:
    """Return how many ranks saved, the states of those that are there, and what is wrong with the files of others."""
    findings = list(loaded.findings)
    if not stage:
        return 0, {}, findings
    if loaded.states:
        world, mixed = agreement.world_of(loaded.states)
        findings += mixed
    else:
        stated = (model.world_size for model in loaded.models if model.world_size)
        world = next(stated, 1 + max((shard.rank for shard in files), default=0))
    findings += agreement.stale(files, world)
    states = {rank: state for rank, state in loaded.states.items() if rank < world and max(state.partitions) == world}
    return world, states, findings


def _models(loaded: Loaded, stage: int, world: int) -> dict[int, ModelState]:
    """Return the model files of this stage by rank."""
    if stage == _WEIGHTS_SHARDED:
        return {rank: loaded.model_shards[rank] for rank in sorted(loaded.model_shards) if rank < world}
    return {} if loaded.model is None else {0: loaded.model}


def _other_stage(files: Sequence[Shard], stage: int) -> list[CkptFinding]:
    """Say which model files are of another stage than the optimizers."""
    kind = Kind.MODEL if stage == _WEIGHTS_SHARDED else Kind.MODEL_SHARD
    text = f"a model file of another ZeRO stage than the optimizers', which are of stage {stage}"
    return [finding("shard_stale", text, remedy=_OTHERS, path=shard.path) for shard in files if shard.kind is kind]


def _missing(folder: Path, loaded: Loaded, stage: int, world: int, *, module: bool) -> list[CkptFinding]:
    """Say which ranks' files are not there; those that are broken are reported as such."""
    if not stage:
        return []
    optimizers = {*loaded.states, *loaded.torn.get(Kind.OPTIMIZER, ())}
    code = "optimizer_missing" if module and stage != _WEIGHTS_SHARDED else "ranks_missing"
    findings = agreement.missing(folder, Kind.OPTIMIZER, optimizers, world, code=code)
    if stage == _WEIGHTS_SHARDED:
        models = {*loaded.model_shards, *loaded.torn.get(Kind.MODEL_SHARD, ())}
        findings += agreement.missing(folder, Kind.MODEL_SHARD, models, world, code="ranks_missing")
    return findings


def _shapes(model: ModelState, states: Mapping[int, OptimizerState]) -> Sequence[Shapes]:
    older = (state.shapes for state in states.values() if state.shapes is not None)
    return model.shapes if model.shapes is not None else next(older, ())


def _sharded(
    models: Mapping[int, ModelState], shapes: Sequence[Shapes], states: Mapping[int, OptimizerState], world: int
) -> tuple[Tensors, list[CkptFinding]]:
    """Return what ZeRO-3 cut into slices, and the buffers."""
    first = next(iter(models.values()))
    masters, wrong = zero3.masters(shapes, states, world)
    frozen, more = zero3.frozen(models, world)
    unlike = next((model for model in models.values() if model.shapes != first.shapes), None)
    if unlike is not None:
        text = f"it describes other parameters than {first.path.name}"
        wrong.append(finding("shards_disagree", text, remedy=_OTHERS, path=unlike.path))
    buffers = {name: whole(name, block) for name, block in (first.module or {}).items() if name in first.buffer_names}
    return {**masters, **frozen, **buffers}, wrong + more


def _whole(
    model: ModelState,
    shapes: Sequence[Shapes],
    states: Mapping[int, OptimizerState],
    world: int,
    prefer: Prefer,
    aliases: Mapping[str, str],
) -> tuple[Tensors, list[CkptFinding]]:
    """Return the module's tensors, with the fp32 weights of those that have them."""
    module = {name: whole(name, block) for name, block in (model.module or {}).items()}
    if prefer == "module":
        return module, []
    if not shapes:
        masters = zero0.masters(model, zero0.order(model, aliases)) if zero0.has_masters(model) else {}
        if masters is not None:
            return module | masters, []
        text = "the fp32 weights in the optimizer's state have no names, and their numbers do not tell them apart"
        return module, [finding("masters_unnamed", text, path=model.path)]
    if not states:
        return module, []
    masters, findings = zero12.masters(shapes, states, world)
    owned = {name: shape for group in shapes for name, shape in group.items()}
    for name, shape in owned.items():
        if name in module and module[name].shape != shape:
            text = f"it has the shape {list(module[name].shape)} in the module, and {list(shape)} in param_shapes"
            findings.append(finding("shards_disagree", text, remedy=_OTHERS, path=model.path, tensor=name))
    return {name: tensor for name, tensor in module.items() if name not in owned} | masters, findings


def _of_one_save(
    model: ModelState, shapes: Sequence[Shapes], states: Mapping[int, OptimizerState], world: int
) -> list[CkptFinding]:
    """Compare the module with the fp32 weights of the optimizers beside it, whichever of the two is asked for."""
    masters = zero12.masters(shapes, states, world)[0] if shapes and states else {}
    steps = {state.step for state in states.values() if state.step is not None}
    said = f"; the module's file is of step {model.step}" if model.step is not None else ""
    said += f", the optimizers took {spans(steps)}" if steps else ""
    return check_ends(masters, model.module or {}, model.path, said)


def _without_elements(model: ModelState, owned: Shapes) -> Tensors:
    """Return parameters of no element, which no shard needs to hold."""
    return {
        name: SourceTensor(name=name, dtype=block.dtype, shape=shape, grid=shape, pieces=())
        for name, shape in {**owned, **model.frozen_shapes}.items()
        if math.prod(shape) == 0 and (block := (model.module or {}).get(name)) is not None
    }


def _left_empty(model: ModelState, known: Collection[str]) -> list[CkptFinding]:
    """Say which of the module's tensors are empty and in no shard: versions before 0.9.1 lost frozen parameters."""
    left = [name for name, block in (model.module or {}).items() if name not in known and block.shape == (0,)]
    text = "it is empty here and in no shard: older versions of DeepSpeed did not save frozen parameters"
    remedy = "take it from the model that the training began with"
    return [finding("tensor_empty", text, remedy=remedy, path=model.path, tensor=name) for name in left]


def _left_out(model: ModelState, known: Collection[str]) -> list[CkptFinding]:
    """Say which numbers of ZeRO-3's module the file calls neither a parameter nor a buffer.

    Modules that are there twice have their buffers in one place under two names; `_extra_state` is no weight.
    """
    module = model.module or {}
    taken = {block for name, block in module.items() if name in known}
    weights = {name: block for name, block in module.items() if block.numel and not name.endswith(_EXTRA_STATE)}
    left = [name for name, block in weights.items() if name not in known and block not in taken]
    if not left:
        return []
    text = f"{len(left)} of its tensors are neither parameters nor buffers, by what it says of itself: "
    remedy = "they are left out: compare the file with that of another step; copy it again if names in it are damaged"
    names = listed(left, _MAX_NAMED)
    return [finding("tensors_unclaimed", text + names, remedy=remedy, path=model.path, tensor=left[0])]


def _facts(
    stage: int, states: Mapping[int, OptimizerState], tensors: Mapping[str, SourceTensor], model: ModelState | None
) -> dict[str, str]:
    facts = {"zero_stage": str(stage)}
    first = next(iter(states.values()), None)
    if first is not None:
        facts["optimizer"] = "BF16_Optimizer" if first.stage is None else f"ZeRO-{stage}"
        facts["partition_count"] = ", ".join(map(str, sorted(set(first.partitions))))
        facts["groups"] = str(len(first.groups))
        if first.step is not None:
            facts["optimizer_step"] = str(first.step)
    if model is not None and model.frozen_shapes:
        facts["frozen"] = str(len(model.frozen_shapes))
    dtypes = sorted({tensor.dtype for tensor in tensors.values()})
    return {**facts, "dtypes": ", ".join(dtypes)}
