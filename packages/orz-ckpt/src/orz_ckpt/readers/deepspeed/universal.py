"""Universal checkpoints: a folder for each parameter, with its whole fp32 weight.

`ds_to_universal.py` writes `zero/<parameter>/fp32.pt` and copies the model files beside (DeepSpeed 0.19.8,
`checkpoint/ds_to_universal.py`). Of ZeRO-1 and ZeRO-2, and of tensor parallelism, the file is a dictionary with the
tensor in its shape at `param`; of ZeRO-3 it is the flattened tensor alone. Frozen parameters and buffers of ZeRO-1
and ZeRO-2 are there too, as fp32; the model file has them as they were.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orz_ckpt.errors import FormatError, HostileError
from orz_ckpt.findings import finding
from orz_ckpt.formats import torch_file
from orz_ckpt.quoting import brief
from orz_ckpt.readers.deepspeed import agreement, ties, zero3
from orz_ckpt.readers.deepspeed.assembly import in_order, writer
from orz_ckpt.readers.deepspeed.ends import check_ends
from orz_ckpt.readers.deepspeed.loading import load
from orz_ckpt.readers.deepspeed.names import UNIVERSAL_DIR, Kind, shards
from orz_ckpt.readers.deepspeed.padding import packed_fragments
from orz_ckpt.readers.deepspeed.runs import join
from orz_ckpt.tensors.source import Block, Source, whole

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from orz_ckpt.findings import CkptFinding
    from orz_ckpt.readers.deepspeed.assembly import Prefer
    from orz_ckpt.readers.deepspeed.loading import Loaded
    from orz_ckpt.readers.deepspeed.names import Shard
    from orz_ckpt.readers.deepspeed.states import ModelState
    from orz_ckpt.tensors.source import SourceTensor

_BASE = "take them from the model that the training began with"
_REMEDY = "convert the checkpoint again; its tag is still in the folder that it came from"


def read(folder: Path, *, inert: frozenset[str] = frozenset(), prefer: Prefer = "master") -> Source:
    """List the tensors of a universal checkpoint.

    Args:
        folder: where it lies.
        inert: names of pickle globals that may stand for objects that are never made.
        prefer: as for `reader.read`; `module` takes what a copied model file has whole, not the fp32 weights.

    Raises:
        HostileError: a file is hostile.
        OSError: a file cannot be read.
    """
    files = [shard for shard in shards(folder) if shard.kind in {Kind.MODEL, Kind.MODEL_SHARD}]
    loaded = load([shard for shard in files if not shard.model_rank], inert=inert)
    model = next(iter(loaded.models), None)
    tensors, findings = masters(folder, _all_models(loaded, files, inert), inert=inert)
    aliases: dict[str, str] = {}
    world = (model.world_size if model else None) or len(loaded.model_shards)
    if model is None:
        text = "no model file lies beside `zero/`; it is copied there last, so the conversion never came to its end"
        findings.append(finding("model_states_missing", text, remedy=_REMEDY, path=folder))
    else:
        owned = {name: shape for group in model.shapes or () for name, shape in group.items()}
        aliases = ties.as_stated(model, owned) if loaded.model_shards else ties.in_module(model, owned)
        if not loaded.model_shards:
            findings += check_ends(tensors, model.module or {}, model.path)
        tensors = with_module(tensors, model, {} if prefer == "module" and not loaded.model_shards else owned)
        if loaded.model_shards and model.model_parallel > 1 and model.frozen_shapes:
            text = f"{len(model.frozen_shapes)} frozen parameters are sliced over ranks of tensor parallelism"
            findings.append(finding("layout_unsupported", text, remedy=_BASE, path=model.path))
        elif loaded.model_shards:
            frozen, wrong = zero3.frozen(loaded.model_shards, world)
            tensors, findings = {**tensors, **frozen}, findings + wrong
        tensors = in_order(tensors, model, aliases)
    return Source(
        path=folder,
        format="deepspeed-universal",
        tensors=tensors,
        aliases={alias: name for alias, name in aliases.items() if name in tensors},
        step=None if model is None else model.step,
        writer=writer(loaded.models),
        packed=tuple(packed_fragments(loaded.model_shards, world)),
        findings=(*loaded.findings, *agreement.other_ranks(loaded.models), *findings),
    )


def masters(
    folder: Path, models: Sequence[ModelState], *, inert: frozenset[str] = frozenset()
) -> tuple[dict[str, SourceTensor], list[CkptFinding]]:
    """Return the parameters that have a folder, and what is wrong with them.

    Args:
        folder: the universal checkpoint.
        models: its model files, those of one rank of data parallelism.
        inert: names of pickle globals that may stand for objects that are never made.

    Raises:
        HostileError: a file is hostile.
        OSError: a file cannot be read.
    """
    shapes = {name: shape for model in models for group in model.shapes or () for name, shape in group.items()}
    whole_shapes = {} if any(model.model_parallel > 1 for model in models) else shapes
    tensors: dict[str, SourceTensor] = {}
    findings: list[CkptFinding] = []
    for path in sorted((folder / UNIVERSAL_DIR).glob("*/fp32.pt")):
        name = path.parent.name
        try:
            tensors[name] = _read(path, name, whole_shapes.get(name), inert)
        except HostileError:
            raise
        except FormatError as error:
            findings.append(finding("shard_torn", error.message, remedy=_REMEDY, path=path, tensor=name))
    absent = [name for name in shapes if name not in tensors and 0 not in shapes[name]]
    broken = {entry.tensor for entry in findings}
    if set(absent) - broken:
        text = f"{len(absent)} of {len(shapes)} parameters have no fp32.pt; the first is {brief(absent[0])}"
        findings.append(finding("elements_differ", text, remedy=_REMEDY, path=folder / UNIVERSAL_DIR))
    return tensors, findings


def _all_models(loaded: Loaded, files: Sequence[Shard], inert: frozenset[str]) -> list[ModelState]:
    """Return the model file of each rank of tensor and pipeline parallelism, as far as they can be read."""
    first = loaded.models[:1]
    others = [load([shard], inert=inert).models for shard in files if shard.model_rank and not shard.rank]
    return first + [model for models in others for model in models]


def _read(path: Path, name: str, shape: tuple[int, ...] | None, inert: frozenset[str]) -> SourceTensor:
    value = torch_file.load(path, inert=inert).value
    block = value.get("param") if isinstance(value, dict) else value
    if not isinstance(block, Block):
        raise FormatError(f"{path}: expected a tensor or a dictionary with one at `param`, got {brief(block)}")
    if shape is None or block.shape == shape:
        return whole(name, block)
    tensor = join(name, shape, [block.flat(0, block.numel)]) if block.contiguous and len(block.shape) == 1 else None
    if tensor is None:
        raise FormatError(f"{path}: expected the shape {list(shape)}, got {list(block.shape)}")
    return tensor


def with_module(
    tensors: Mapping[str, SourceTensor], model: ModelState, owned: Collection[str]
) -> dict[str, SourceTensor]:
    """Return the parameters, with buffers and what is not `owned` by the optimizer as the model file has them."""
    kept = {
        name: whole(name, block)
        for name, block in (model.module or {}).items()
        if name in model.buffer_names or (name not in owned and block.numel and model.model_parallel == 1)
    }
    return {**tensors, **kept}
