"""What a model file and an optimizer file of DeepSpeed say, picked out of their pickles and checked.

DeepSpeed 0.19.8: `runtime/engine.py` (`_common_checkpoint_state`, `_save_zero_checkpoint`),
`runtime/zero/stage_1_and_2.py`, `runtime/zero/stage3.py`, `runtime/bf16_optimizer.py` (`state_dict` of each).
Until 0.5.3 `param_shapes` was one dictionary, and until 0.5.10 it lay in the optimizer's files.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from orz_ckpt.errors import FormatError
from orz_ckpt.formats import torch_file
from orz_ckpt.quoting import brief
from orz_ckpt.readers.step_counts import count_of, optimizer_step, whole_number
from orz_ckpt.strict_json import is_size
from orz_ckpt.tensors.source import MAX_DIMENSIONS, Block

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from orz_ckpt.formats.alike import Alike

Shapes = dict[str, tuple[int, ...]]
"""Names to shapes, in the order in which they lie one behind the other."""

MAX_RANKS: Final = 2**20
"""More than any cluster has. What the files say is turned into sets of ranks, so it has to have an end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelState:
    """A `*_model_states.pt` file."""

    path: Path
    module: Mapping[str, Block] | None
    """None for a pipeline, whose layers have files of their own. Under ZeRO-3 parameters are empty here."""
    buffer_names: frozenset[str]
    shapes: tuple[Shapes, ...] | None
    """Of what the optimizer owns: a dictionary a group (ZeRO-3: a sub-group). None without ZeRO."""
    frozen_shapes: Shapes
    frozen_fragments: Mapping[str, Block]
    shared: Mapping[str, str]
    """Other names of tied parameters -> the name that has the numbers. Only rank 0 writes them."""
    optimizer: Mapping[object, object]
    """Without ZeRO: the optimizer's state."""
    version: str
    step: int | None
    skipped_steps: int
    """Of those, the ones in which an fp16 gradient overflowed and no weight changed."""
    world_size: int | None
    model_parallel: int
    """Ranks of tensor and pipeline parallelism together."""
    experts: str
    """What it says of a mixture of experts; empty for a dense model."""
    configured_stage: int | None
    """The ZeRO stage that its copy of the configuration names."""
    stem: str = ""
    """See `TorchFile`: the name that the file was saved under."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerState:
    """A `*_optim_states.pt` file of a rank under ZeRO."""

    path: Path
    rank: int
    stage: int | None
    """None for BF16_Optimizer, which does not say; its partitions are those of stage 1."""
    groups: tuple[Block | None, ...]
    """This rank's fp32 weights, one dimension a group (ZeRO-3: a sub-group); None where they were swapped out."""
    moments: Mapping[int, Sequence[Block]]
    """By the number of a group, what the optimizer keeps of each of its elements, one dimension: Adam's averages."""
    partitions: tuple[int, ...]
    """How many ranks share a group: for each group, or once for all."""
    paddings: tuple[tuple[int, ...], ...] | None
    """Elements of padding behind each parameter of each group; None for versions that have none."""
    shapes: tuple[Shapes, ...] | None
    """Of versions before 0.6.0."""
    version: str
    step: int | None
    """Steps that the optimizer took; those before the first one of training count, too."""
    experts: str
    """What it says of a mixture of experts; empty for a dense model."""
    stem: str = ""
    """See `TorchFile`: the name that the file was saved under."""


def read_model(path: Path, *, inert: frozenset[str] = frozenset(), alike: Alike | None = None) -> ModelState:
    """Read what a model file says of itself and where its tensors are.

    Args:
        path: the file.
        inert: names of pickle globals that may stand for objects that are never made.
        alike: of the files of other ranks, read before.

    Raises:
        FormatError: it is not one, or it is torn.
        OSError: it cannot be read.
    """
    content = torch_file.load(path, inert=inert, alike=alike)
    state = _Fields(path, content.value)
    module = state.get("module")
    shapes = state.get("param_shapes")
    dims = state.get("checkpoint_parallel_dimensions")
    degrees = (
        [whole_number(dims.get(key)) or 1 for key in ("pp_degree", "tp_degree")] if isinstance(dims, dict) else [1]
    )
    return ModelState(
        path=path,
        module=None if module is None else _blocks(path, "module", module),
        buffer_names=frozenset(name for name in _items(state.get("buffer_names")) if isinstance(name, str)),
        shapes=None if shapes is None else _all_shapes(path, shapes),
        frozen_shapes=_shapes(path, "frozen_param_shapes", state.get("frozen_param_shapes") or {}),
        frozen_fragments=_blocks(path, "frozen_param_fragments", state.get("frozen_param_fragments") or {}),
        shared=_names(state.get("shared_params")),
        optimizer=_dictionary(state.get("optimizer")),
        version=_version(state.get("ds_version")),
        step=whole_number(state.get("global_steps")),
        skipped_steps=whole_number(state.get("skipped_steps")) or 0,
        world_size=_world_size(path, state.get("dp_world_size")),
        model_parallel=max(whole_number(state.get("mp_world_size")) or 1, *degrees, 1),
        experts=_experts(state),
        configured_stage=whole_number(
            _dictionary(_dictionary(state.get("ds_config")).get("zero_optimization")).get("stage")
        ),
        stem=content.stem,
    )


def read_optimizer(
    path: Path, rank: int, *, inert: frozenset[str] = frozenset(), alike: Alike | None = None
) -> OptimizerState:
    """Read what a rank's optimizer file says of itself and where its fp32 weights are.

    Args:
        path: the file.
        rank: whose it is.
        inert: names of pickle globals that may stand for objects that are never made.
        alike: of the files of other ranks, read before.

    Raises:
        FormatError: it is not one, or it is torn.
        OSError: it cannot be read.
    """
    content = torch_file.load(path, inert=inert, alike=alike)
    file = _Fields(path, content.value)
    state = _Fields(path, file.require("optimizer_state_dict"))
    stage = whole_number(state.get("zero_stage"))
    key = "fp32_flat_groups" if "fp32_flat_groups" in state.values else "single_partition_of_fp32_groups"
    groups = _items(state.require(key))
    shapes = file.get("param_shapes")
    paddings = state.get("param_alignment_paddings")
    return OptimizerState(
        path=path,
        rank=rank,
        stage=3 if stage is None and key == "fp32_flat_groups" else stage,
        groups=tuple(_flat(path, f"{key}[{index}]", group) for index, group in enumerate(groups)),
        moments=_moments(state),
        partitions=_partitions(path, state.require("partition_count")),
        paddings=None if paddings is None else _paddings(path, paddings),
        shapes=None if shapes is None else _all_shapes(path, shapes),
        version=_version(file.get("ds_version") or state.get("ds_version")),
        step=_step(state),
        experts="AutoEP experts in ZeRO-3 partitions" if state.get("ds_zero_partition_groups") else "",
        stem=content.stem,
    )


class _Fields:
    """A dictionary of a pickle, read with errors that name the file and the key."""

    def __init__(self, path: Path, value: object) -> None:
        if not isinstance(value, dict):
            raise _wrong(path, "its content", "a dictionary", value)
        self.path = path
        self.values: dict[object, object] = value

    def get(self, key: str) -> object:
        return self.values.get(key)

    def require(self, key: str) -> object:
        if key not in self.values:
            raise _wrong(self.path, key, "it to be there", None)
        return self.values[key]


def _wrong(path: Path, where: str, expected: str, found: object) -> FormatError:
    return FormatError(
        f"{path}: {where}: expected {expected}, got {brief(found)}",
        remedy="this is not a file of DeepSpeed's, or one of a version that this reader does not know",
    )


def _dictionary(value: object) -> Mapping[object, object]:
    return value if isinstance(value, dict) else {}


def _items(value: object) -> tuple[object, ...]:
    return tuple(value) if isinstance(value, (list, tuple, set, frozenset)) else ()


def _version(value: object) -> str:
    return value if isinstance(value, str) and value.isprintable() else ""


def _blocks(path: Path, where: str, value: object) -> dict[str, Block]:
    """Return the tensors of a dictionary; what else is in it (`extra_state`) is no weight."""
    if not isinstance(value, dict):
        raise _wrong(path, where, "a dictionary of tensors", value)
    for name in value:
        if not isinstance(name, str):
            raise _wrong(path, where, "names of tensors", name)
    return {name: block for name, block in value.items() if isinstance(block, Block)}


def _names(value: object) -> dict[str, str]:
    return {
        alias: name for alias, name in _dictionary(value).items() if isinstance(alias, str) and isinstance(name, str)
    }


def _all_shapes(path: Path, value: object) -> tuple[Shapes, ...]:
    groups = value if isinstance(value, (list, tuple)) else [value]
    found = tuple(_shapes(path, f"param_shapes[{index}]", group) for index, group in enumerate(groups))
    times = Counter(name for group in found for name in group)
    twice = [name for name, number in times.items() if number > 1]
    if twice:
        raise _wrong(path, "param_shapes", "each name once", twice[0])
    return found


def _shapes(path: Path, where: str, value: object) -> Shapes:
    if not isinstance(value, dict):
        raise _wrong(path, where, "a dictionary of shapes", value)
    for name, shape in value.items():
        if not isinstance(name, str):
            raise _wrong(path, where, "names of tensors", name)
        sound = isinstance(shape, (tuple, list)) and len(shape) <= MAX_DIMENSIONS and all(map(is_size, shape))
        if not sound:
            raise _wrong(path, f"{where}.{brief(name)}", f"a shape of at most {MAX_DIMENSIONS} dimensions", shape)
    return {name: tuple(shape) for name, shape in value.items()}


def _flat(path: Path, where: str, value: object) -> Block | None:
    if value is None:
        return None
    if not isinstance(value, Block) or not value.contiguous:
        raise _wrong(path, where, "a contiguous tensor", value)
    return value.flat(0, value.numel)


def _moments(state: _Fields) -> dict[int, list[Block]]:
    """Return what the optimizer has of each group's elements; its parameters are the groups, numbered in order."""
    inner = _inner(state)
    by_group = _dictionary(_dictionary(inner).get("state")) or dict(enumerate(_items(inner)))
    return {
        group: [
            value
            for value in _dictionary(kept).values()
            if isinstance(value, Block) and len(value.shape) == 1 and value.contiguous
        ]
        for group, kept in by_group.items()
        if is_size(group)
    }


def _partitions(path: Path, value: object) -> tuple[int, ...]:
    counts = tuple(whole_number(count) or 0 for count in (value if isinstance(value, (list, tuple)) else [value]))
    if not counts or not all(1 <= count <= MAX_RANKS for count in counts):
        raise _wrong(path, "partition_count", f"numbers of ranks, at most {MAX_RANKS:,}", value)
    return counts


def _world_size(path: Path, value: object) -> int | None:
    size = whole_number(value)
    if size is not None and size > MAX_RANKS:
        raise _wrong(path, "dp_world_size", f"a number of ranks, at most {MAX_RANKS:,}", value)
    return size


def _paddings(path: Path, value: object) -> tuple[tuple[int, ...], ...]:
    groups = tuple(tuple(whole_number(padding) for padding in _items(group)) for group in _items(value))
    if any(padding is None for group in groups for padding in group):
        raise _wrong(path, "param_alignment_paddings", "numbers of elements", value)
    return tuple(tuple(padding or 0 for padding in group) for group in groups)


def _experts(state: _Fields) -> str:
    for key in ("ds_autoep_layers", "autoep_layers"):
        if state.get(key):
            return "AutoEP experts"
    return "a mixture of experts" if state.get("num_experts") else ""


def _step(state: _Fields) -> int | None:
    """Return the optimizer's count of steps, wherever its kind keeps it; None where it has none (SGD, Muon)."""
    counts = (count_of(state.get("base_optimizer_state_step")), optimizer_step(_inner(state)))
    return max((count for count in counts if count is not None), default=None)


def _inner(state: _Fields) -> object:
    """Return the state of the optimizer that DeepSpeed's own wraps."""
    return state.get("optimizer_state_dict") or state.get("base_optimizer_state")
