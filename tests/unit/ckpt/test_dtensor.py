"""Which box of a tensor a rank holds: meshes and placements of several versions of torch, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from orz_ckpt.formats.inert import Global, Inert
from orz_ckpt.readers.dtensor import ShardingError, mesh_of, parts_of, saved_by
from orz_ckpt.tensors.source import Block, c_strides

if TYPE_CHECKING:
    from orz_ckpt.readers.parts import Part

pytestmark = pytest.mark.unit

MODULE = "torch.distributed.tensor.placement_types"


def block(*shape: int, dtype: str = "F32") -> Block:
    return Block(path=Path("rank.pt"), offset=64, dtype=dtype, shape=shape, strides=c_strides(shape))


def shard(dim: int) -> Inert:
    return Inert(f"{MODULE}.Shard", state={"dim": dim})


def strided(dim: int, split_factor: int) -> Inert:
    return Inert(f"{MODULE}._StridedShard", state={"dim": dim, "split_factor": split_factor})


REPLICATE = Inert(f"{MODULE}.Replicate", state={})


def layout(*sizes: int) -> Inert:
    axes = tuple(Inert("torch.distributed._mesh_layout._FlatLayout", state={"shape": (size,)}) for size in sizes)
    return Inert("torch.distributed._mesh_layout._MeshLayout", state={"axes": axes})


def dtensor(local: Block, size: tuple[int, ...], mesh: dict[str, object], *placements: object, **spec: object) -> Inert:
    """Return what a file of torch 2.13 holds."""
    fields = {"mesh": Inert("torch.distributed.device_mesh.DeviceMesh", state=mesh), "placements": placements, **spec}
    state = (None, {"_local_tensor": local, "_spec": Inert("DTensorSpec", state=fields)})
    args = (Global("torch.distributed.tensor.DTensor"), Global("torch.float32"), size, c_strides(size), 0)
    return Inert("torch.distributed.tensor.DTensor", args, state)


def only(value: object, rank: int) -> Part:
    (part,) = parts_of(value, rank=rank)
    return part


@pytest.mark.parametrize(
    "mesh",
    [
        {"_layout": layout(4), "_coordinate_on_dim": (1,), "_mesh_dim_names": ("fsdp",)},  # 2.11 to 2.13
        {"_layout": Inert("_MeshLayout", state={"shape": (4,), "stride": (1,)}), "_coordinate_on_dim": [1]},  # 2.9
        {"_layout": Inert("_MeshLayout", state={"shape": 4, "stride": 1})},
        {"mesh": block(4, dtype="I32"), "mesh_dim_names": ("fsdp",), "_coordinate_on_dim": [1]},  # 2.2 to 2.8
        {"mesh": block(4, dtype="I64")},
    ],
)
def test_meshes_of_several_versions(mesh: dict[str, object]) -> None:
    """Sizes and place come from whatever attributes a version has; without a place ranks are counted."""
    part = only(dtensor(block(3, 5), (11, 5), mesh, shard(0)), rank=1)
    assert ((11, 5), (3, 0)) == (part.shape, part.start)


@pytest.mark.parametrize(
    ("rank", "rows", "start"), [(0, 3, 0), (1, 3, 3), (2, 3, 6), (3, 0, 9), (4, 0, 9), (5, 0, 9), (6, 0, 9)]
)
def test_last_ranks_hold_nothing(rank: int, rows: int, start: int) -> None:
    """9 rows on 4 ranks are 3, 3, 3 and none: chunks are rounded up. On 7 ranks they are 2, 2, 2, 2, 1 and none."""
    if rank < 4:
        mesh: dict[str, object] = {"_layout": layout(4), "_coordinate_on_dim": (rank,)}
        assert (start, 0) == only(dtensor(block(rows, 5), (9, 5), mesh, shard(0)), rank).start
    mesh = {"_layout": layout(7), "_coordinate_on_dim": (rank,)}
    held = [2, 2, 2, 2, 1, 0, 0][rank]
    assert (min(2 * rank, 9), 0) == only(dtensor(block(held, 5), (9, 5), mesh, shard(0)), rank).start


@pytest.mark.parametrize(
    ("coordinate", "local", "start"),
    [
        ((0, 0), (2,), (0,)),
        ((0, 1), (2,), (2,)),
        ((1, 0), (2,), (4,)),
        ((1, 1), (1,), (6,)),
    ],
)
def test_two_shards_of_one_dimension_cut_from_left_to_right(
    coordinate: tuple[int, int], local: tuple[int], start: tuple[int]
) -> None:
    """7 elements on 2 x 2: the outer dimension gives 4 and 3, the inner one 2 and 2, 2 and 1."""
    mesh = {"_layout": layout(2, 2), "_coordinate_on_dim": coordinate}
    assert start == only(dtensor(block(*local), (7,), mesh, shard(0), shard(0)), 0).start


def test_strided_shard_is_cut_after_those_to_its_right() -> None:
    """FSDP of 2 outside, tensor parallelism of 4 inside: 16 rows are 4 blocks of 4, each cut into 2."""
    mesh = {"_layout": layout(2, 4), "_coordinate_on_dim": (1, 2)}
    assert (10,) == only(dtensor(block(2), (16,), mesh, strided(0, 4), shard(0)), 6).start


def test_stated_order_of_cuts_is_followed() -> None:
    """Where the file states that the second dimension of the mesh cuts first, it does."""
    entry = Inert("torch.distributed.tensor._dtensor_spec.ShardOrderEntry", (0, (1, 0)))
    mesh = {"_layout": layout(2, 4), "_coordinate_on_dim": (1, 2)}
    assert (10,) == only(dtensor(block(2), (16,), mesh, shard(0), shard(0), shard_order=(entry,)), 6).start
    assert (12,) == only(dtensor(block(2), (16,), mesh, shard(0), shard(0)), 6).start


def test_replicas_hold_the_same_box() -> None:
    """On a mesh of 2 replicas of 2 shards both replicas begin at the same rows."""
    starts = [
        only(
            dtensor(block(3), (6,), {"_layout": layout(2, 2), "_coordinate_on_dim": (n, 1)}, REPLICATE, shard(0)), n
        ).start
        for n in (0, 1)
    ]
    assert [(3,), (3,)] == starts


def test_sharded_tensor_says_where_its_shards_belong() -> None:
    """FSDP1 lists its shards with their offsets; a rank may have none."""
    where = Inert("ShardMetadata", state=(None, {"shard_offsets": [6, 0], "shard_sizes": [1, 5]}))
    one = Inert("Shard", state=(None, {"tensor": block(1, 5), "metadata": where}))
    name = "torch.distributed._shard.sharded_tensor.api.ShardedTensor"
    group = Inert(f"{name}.ProcessGroupState", state={"local_rank": 0, "global_rank": 2})
    for shards, starts in (([one], [(6, 0)]), ([], [])):
        value = Inert(name, (Global(name), Global("torch.float32"), (7, 5), (5, 1)), (shards, None, group, None, False))
        assert starts == [part.start for part in parts_of(value, rank=2)]
        assert 2 == saved_by(value)


def test_plain_tensor_is_whole() -> None:
    """A tensor that is no DTensor is whole, whatever its size."""
    assert ((), ()) == (only(block(), 3).shape, only(block(), 3).start)
    assert None is saved_by(block())


def test_mesh_is_named() -> None:
    """The mesh of a report names its dimensions; names that are no words are left out."""
    mesh: dict[str, object] = {"_layout": layout(2, 4), "_mesh_dim_names": ("ddp", "fsdp")}
    assert "ddp 2 x fsdp 4" == mesh_of(dtensor(block(1), (4,), mesh, REPLICATE, shard(0)))
    assert "2 x 4" == mesh_of(dtensor(block(1), (4,), {"_layout": layout(2, 4)}, REPLICATE, shard(0)))
    assert "" == mesh_of(block())


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (dtensor(block(4), (11,), {"_layout": layout(3), "_coordinate_on_dim": (2,)}, shard(0)), "should hold [3]"),
        (dtensor(block(4), (12,), {"_layout": layout(3), "_coordinate_on_dim": (3,)}, shard(0)), "says that it is at"),
        (dtensor(block(4), (12,), {"_layout": layout(3)}, shard(0), shard(0)), "placements for another number"),
        (dtensor(block(4), (12,), {"_layout": layout(3)}, shard(1)), "dimension 1 of a tensor with 1"),
        (dtensor(block(4), (12,), {"_layout": layout(3)}, shard(-1)), "dimension -1"),
        (dtensor(block(4), (12,), {}, shard(0)), "whose sizes are not stated"),
        (dtensor(block(4), (12,), {"_layout": layout(0)}, shard(0)), "whose sizes are not stated"),
        (dtensor(block(4), (12,), {"_layout": layout(3, 4)}, strided(0, 3), shard(0)), "stride 3 beside 4"),
        (dtensor(block(4), (12,), {"_layout": layout(3)}, Inert("Ragged", state={})), "'Ragged'"),
        (
            dtensor(block(4), (12,), {"_layout": layout(3)}, Inert(f"{MODULE}.Partial", state={"reduce_op": "sum"})),
            "partial sums",
        ),
        (dtensor(block(4, 1), (12,), {"_layout": layout(3)}, shard(0)), "as many dimensions"),
        (Inert("SparseTensor", state={}), "'SparseTensor'"),
        (3.5, "a float"),
        (None, "a NoneType"),
    ],
)
def test_what_is_not_understood_is_refused(value: object, said: str) -> None:
    """A part that does not follow from mesh and placements, or a kind not known here, is never guessed."""
    with pytest.raises(ShardingError) as caught:
        parts_of(value, rank=0)
    assert said in str(caught.value)
