"""Which part of a tensor a rank holds, as a `DTensor` or `ShardedTensor` in that rank's file says.

torch 2.13: `distributed/tensor/placement_types.py` and `_dtensor_spec.py` (what a placement means and in which order
placements apply), `distributed/device_mesh.py` and `_mesh_layout.py` (the mesh), `_utils.py`
(`_rebuild_wrapper_subclass`), `distributed/_shard/sharded_tensor/api.py`. Objects are told apart by the attributes that
they have, so the module paths and meshes of torch 2.1 to 2.12 are read, too.

The part that follows from mesh and placements is compared with the shape of the tensor that is really there. What does
not agree, or is not known here, is refused: a guess would put weights in wrong rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from orz_ckpt.formats.inert import Inert
from orz_ckpt.quoting import brief
from orz_ckpt.readers.parts import Part
from orz_ckpt.strict_json import is_size
from orz_ckpt.tensors.source import Block

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_DIMS: Final = 16
"""Of a mesh, or of a tensor."""


class ShardingError(ValueError):
    """The text says which part of a sharding is not understood; it begins with what was found."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """How a `DTensor` lies on the ranks of its mesh."""

    mesh: tuple[int, ...]
    """The size of each dimension."""
    cut: tuple[int, ...]
    """The dimensions of the mesh that cut the tensor, ascending; along the others ranks hold copies."""
    in_order: bool
    """Whether the rank that says so is where counting through the mesh would find it."""

    def place(self, rank: int) -> tuple[int, ...]:
        """Return where a rank is along the dimensions that cut; whose places are equal, they hold the same part."""
        counted = _counted(self.mesh, rank)
        return tuple(counted[dim] for dim in self.cut)


def parts_of(value: object, *, rank: int) -> tuple[Part, ...]:
    """Return what a rank's file holds of a tensor: nothing, one box, or several.

    Args:
        value: what the file has under the tensor's name: a `Block` (whole), a `DTensor`, a `ShardedTensor`.
        rank: of the file, as its name says.

    Raises:
        ShardingError: it is no tensor, or sharded in a way that is not understood.
    """
    if isinstance(value, Block):
        return (Part(shape=value.shape, start=(0,) * len(value.shape), block=value),)
    if isinstance(value, Inert):
        if is_dtensor(value):
            return (_dtensor(value, attributes(value), rank),)
        if value.name.endswith(".ShardedTensor"):
            return _sharded_tensor(value)
        raise ShardingError(f"a {brief(value.name)}, which is no tensor known here")
    raise ShardingError(f"a {type(value).__name__}, which is no tensor")


def is_dtensor(value: object) -> bool:
    """Return whether a value is a `DTensor`, by the attributes that it has."""
    return attributes(value).keys() >= {"_local_tensor", "_spec"}


def spread_of(value: object, *, rank: int) -> Spread:
    """Return how a `DTensor` lies on the ranks of its mesh.

    Args:
        value: what a rank's file has under the tensor's name.
        rank: of the file.

    Raises:
        ShardingError: it is no `DTensor`, or sharded in a way that is not understood.
    """
    spec, shape = attributes(attributes(value).get("_spec")), _stated_shape(value)
    if shape is None:
        raise ShardingError("a DTensor without a shape")
    mesh, _ = _mesh(spec.get("mesh"))
    cut = {mesh_dim for mesh_dim, _ in _cuts(spec, mesh, len(shape))}
    in_order = _coordinate(spec.get("mesh"), mesh, rank) == _counted(mesh, rank)
    return Spread(mesh=mesh, cut=tuple(sorted(cut)), in_order=in_order)


def saved_by(value: object) -> int | None:
    """Return the rank that wrote a `DTensor` or `ShardedTensor`, None where it does not say."""
    if not isinstance(value, Inert):
        return None
    fields = attributes(value)
    said = attributes(attributes(fields.get("_spec")).get("mesh")).get("_rank")
    if value.name.endswith(".ShardedTensor") and isinstance(value.state, tuple):
        said = next((fields["global_rank"] for fields in map(attributes, value.state) if "global_rank" in fields), None)
    return said if is_size(said) else None


def mesh_of(value: object) -> str:
    """Return the mesh of a `DTensor`, as `ddp 2 x fsdp 4`; empty where there is none that is understood."""
    try:
        return _mesh_text(*_mesh(attributes(attributes(value).get("_spec")).get("mesh")))
    except ShardingError:
        return ""


def attributes(value: object) -> Mapping[str, object]:
    """Return the attributes that an object would have got; of one with slots, these."""
    if not isinstance(value, Inert):
        return {}
    state = value.state
    parts = state if isinstance(state, tuple) and len(state) == 2 else (state,)  # noqa: PLR2004  __dict__, slots
    return {
        key: part
        for fields in parts
        if isinstance(fields, dict)
        for key, part in fields.items()
        if isinstance(key, str)
    }


def sizes_of(value: object) -> tuple[int, ...] | None:
    """Return a shape, an offset or the like as a tuple; None where it is none."""
    if isinstance(value, (tuple, list)) and len(value) <= MAX_DIMS and all(is_size(item) for item in value):
        return tuple(value)
    return None


def _dtensor(value: Inert, fields: Mapping[str, object], rank: int) -> Part:
    local, spec = fields["_local_tensor"], attributes(fields["_spec"])
    shape = _stated_shape(value)
    if not isinstance(local, Block) or shape is None or len(local.shape) != len(shape):
        raise ShardingError("a DTensor without a local tensor of as many dimensions as its own")
    mesh, names = _mesh(spec.get("mesh"))
    coordinate = _coordinate(spec.get("mesh"), mesh, rank)
    start, size = [0] * len(shape), list(shape)
    for mesh_dim, dim in _cuts(spec, mesh, len(shape)):
        offset, size[dim] = _chunk(size[dim], mesh[mesh_dim], coordinate[mesh_dim])
        start[dim] += offset
    if tuple(size) != local.shape:
        raise ShardingError(
            f"rank {rank} of the mesh {_mesh_text(mesh, names)} should hold {size} of {list(shape)},"
            f" and holds {list(local.shape)}"
        )
    return Part(shape=shape, start=tuple(start), block=local)


def _chunk(size: int, num_chunks: int, index: int) -> tuple[int, int]:
    """Return first index and length of a chunk; the last ones are shorter or empty, as with `torch.chunk`."""
    full = -(-size // num_chunks)
    begin = min(full * index, size)
    return begin, min(full, size - begin)


def _cuts(spec: Mapping[str, object], mesh: Sequence[int], num_dims: int) -> list[tuple[int, int]]:
    """Return pairs of a mesh's and a tensor's dimension, in the order in which the tensor is cut."""
    placements = spec.get("placements")
    if not isinstance(placements, (tuple, list)) or len(placements) != len(mesh):
        raise ShardingError(f"a mesh of {len(mesh)} dimensions with placements for another number")
    by_dim: dict[int, list[tuple[int, int]]] = {}
    for mesh_dim, placement in enumerate(placements):
        cut = _cut(placement)
        if cut is not None:
            dim, split_factor = cut
            if not 0 <= dim < num_dims:
                raise ShardingError(f"dimension {dim} of a tensor with {num_dims} is sharded")
            by_dim.setdefault(dim, []).append((mesh_dim, split_factor))
    orders = _stated_orders(spec.get("shard_order"))
    cuts: list[tuple[int, int]] = []
    for dim, of_dim in by_dim.items():
        order = _order(of_dim, mesh)
        stated = orders.get(dim, tuple(order))
        if sorted(stated) != sorted(order):
            raise ShardingError(f"an order of shards {brief(stated)} for the dimensions {brief(sorted(order))}")
        cuts += [(mesh_dim, dim) for mesh_dim in stated]
    return cuts


def _cut(placement: object) -> tuple[int, int] | None:
    """Return the dimension that a placement shards, and its split factor; None where it replicates."""
    fields = attributes(placement)
    dim, factor = fields.get("dim"), fields.get("split_factor", 1)
    if isinstance(dim, int) and is_size(factor) and fields.keys() <= {"dim", "split_factor"}:
        return dim, factor
    kind = placement.name.rpartition(".")[2] if isinstance(placement, Inert) else type(placement).__name__
    if kind == "Replicate":
        return None
    if "reduce_op" in fields:
        raise ShardingError("partial sums: the ranks' values were not added up when they were saved")
    raise ShardingError(f"a placement {brief(kind)}, which is not known here")


def _order(of_dim: Sequence[tuple[int, int]], mesh: Sequence[int]) -> list[int]:
    """Return the mesh's dimensions that cut one dimension of a tensor, the first cut first.

    A `Shard` comes before those to its right. A `_StridedShard` comes after as many of them as its split factor
    says: with FSDP outside and tensor parallelism inside, the inner one cuts first.
    """
    order: list[int] = []
    for mesh_dim, split_factor in reversed(of_dim):
        factors = [math.prod(mesh[other] for other in order[:count]) for count in range(len(order) + 1)]
        if split_factor not in factors:
            raise ShardingError(f"a shard with stride {split_factor} beside {factors[-1]} others")
        order.insert(factors.index(split_factor), mesh_dim)
    return order


def _stated_orders(value: object) -> dict[int, tuple[int, ...]]:
    """Return the order of cuts for each dimension of a tensor, where the file states it."""
    orders: dict[int, tuple[int, ...]] = {}
    for entry in value if isinstance(value, (tuple, list)) else ():
        args = entry.args if isinstance(entry, Inert) else entry
        if isinstance(args, tuple) and len(args) == 2:  # noqa: PLR2004  ShardOrderEntry: a dimension and an order
            dim, order = args[0], sizes_of(args[1])
            if isinstance(dim, int) and order is not None:
                orders[dim] = order
    return orders


def _mesh(value: object) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Return the size of each dimension of a mesh, and their names where it has any."""
    fields = attributes(value)
    layout = attributes(fields.get("_layout"))
    axes = layout.get("axes")
    sizes: tuple[int, ...] | None = None
    if isinstance(axes, (tuple, list)):
        shapes = [sizes_of(attributes(axis).get("shape")) for axis in axes]
        sizes = sizes_of([math.prod(shape) if shape is not None else None for shape in shapes])
    elif "shape" in layout:
        shape = layout["shape"]
        sizes = sizes_of((shape,) if isinstance(shape, int) else shape)
    elif isinstance(ranks := fields.get("mesh"), Block):
        sizes = ranks.shape
    if not sizes or 0 in sizes:
        raise ShardingError("a mesh of devices whose sizes are not stated in a way known here")
    names = fields.get("_mesh_dim_names", fields.get("mesh_dim_names"))
    known = names if isinstance(names, (tuple, list)) and len(names) == len(sizes) else ()
    return sizes, tuple(name for name in known if isinstance(name, str) and name.isidentifier())


def _coordinate(value: object, mesh: tuple[int, ...], rank: int) -> tuple[int, ...]:
    """Return the place of a rank in its mesh: as it says itself, else by counting through a mesh of all ranks."""
    stated = sizes_of(attributes(value).get("_coordinate_on_dim"))
    if stated is None:
        stated = _counted(mesh, rank)
    if len(stated) != len(mesh) or any(index >= size for index, size in zip(stated, mesh, strict=True)):
        raise ShardingError(f"rank {rank} says that it is at {brief(stated)} of a mesh {brief(mesh)}")
    return stated


def _counted(mesh: tuple[int, ...], rank: int) -> tuple[int, ...]:
    """Return the place of a rank in a mesh of all ranks in their order."""
    return tuple(rank // math.prod(mesh[dim + 1 :]) % size for dim, size in enumerate(mesh))


def _stated_shape(value: object) -> tuple[int, ...] | None:
    """Return the shape of all of a sharded tensor; None where it states none."""
    args = value.args if isinstance(value, Inert) else ()
    return next((sizes for arg in args if (sizes := sizes_of(arg)) is not None), None)


def _mesh_text(mesh: Sequence[int], names: Sequence[str]) -> str:
    labels = [f"{name} {size}" for name, size in zip(names, mesh, strict=True)] if names else map(str, mesh)
    return " x ".join(labels)


def _sharded_tensor(value: Inert) -> tuple[Part, ...]:
    """Return the shards of an FSDP1 tensor: each says itself where it belongs."""
    shape = _stated_shape(value)
    shards = value.state[0] if isinstance(value.state, tuple) and value.state else None
    if shape is None or not isinstance(shards, list):
        raise ShardingError("a ShardedTensor without a list of its shards")
    parts = []
    for shard in shards:
        fields = attributes(shard)
        block, where = fields.get("tensor"), attributes(fields.get("metadata"))
        start, size = sizes_of(where.get("shard_offsets")), sizes_of(where.get("shard_sizes"))
        if not isinstance(block, Block) or start is None or size != block.shape or len(start) != len(shape):
            raise ShardingError("a ShardedTensor whose shards do not say where they belong")
        parts.append(Part(shape=shape, start=start, block=block))
    return tuple(parts)
