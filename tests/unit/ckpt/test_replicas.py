"""Which ranks of an FSDP save hold the same, as one rank's file says."""

from __future__ import annotations

from pathlib import Path

import pytest

from orz_ckpt.formats.inert import Global, Inert
from orz_ckpt.readers.fsdp.replicas import replicas
from orz_ckpt.tensors.source import Block, c_strides

pytestmark = pytest.mark.unit

REPLICATE = Inert("Replicate", state={})
SHARD = Inert("Shard", state={"dim": 0})
PARTIAL = Inert("Partial", state={"reduce_op": "sum"})


def block(*shape: int) -> Block:
    return Block(path=Path("rank.pt"), offset=64, dtype="F32", shape=shape, strides=c_strides(shape))


def dtensor(mesh: tuple[int, ...], *placements: Inert, coordinate: tuple[int, ...] | None = None) -> Inert:
    """A tensor of 16 x 2, on a mesh as torch 2.9 describes it."""
    where = {} if coordinate is None else {"_coordinate_on_dim": coordinate}
    fields = {"mesh": Inert("DeviceMesh", state={"_layout": Inert("L", state={"shape": mesh}), **where})}
    spec = Inert("DTensorSpec", state={**fields, "placements": placements})
    args = (Global("torch.distributed.tensor.DTensor"), Global("torch.float32"), (16, 2), (2, 1), 0)
    return Inert("DTensor", args, (None, {"_local_tensor": block(4, 2), "_spec": spec}))


def sharded_tensor(rows: int, held: int) -> Inert:
    """A tensor of FSDP1 without a mesh, of which a rank holds the first rows."""
    where = Inert("ShardMetadata", state=(None, {"shard_offsets": [0, 0], "shard_sizes": [held, 2]}))
    shard = Inert("Shard", state=(None, {"tensor": block(held, 2), "metadata": where}))
    return Inert("x.ShardedTensor", (Global("x"), Global("torch.float32"), (rows, 2), (2, 1)), ([shard], None, None))


PAIRS = [[0, 4], [1, 5], [2, 6], [3, 7]]


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({"w": dtensor((2, 4), REPLICATE, SHARD)}, PAIRS),
        ({"w": dtensor((2, 4), REPLICATE, SHARD), "rope": block(3), "m._extra_state": 1}, PAIRS),
        ({"w": dtensor((2, 4), SHARD, REPLICATE)}, [[0, 1, 2, 3], [4, 5, 6, 7]]),
        ({"w": dtensor((2, 4), REPLICATE, REPLICATE)}, [list(range(8))]),
        ({"w": dtensor((2, 2, 2), REPLICATE, SHARD, SHARD)}, PAIRS),
        ({"w": dtensor((8,), SHARD)}, []),
        ({"w": dtensor((2, 4), REPLICATE, SHARD), "norm": dtensor((2, 4), SHARD, REPLICATE)}, []),
        ({"w": dtensor((2, 4), REPLICATE, SHARD), "expert": dtensor((8,), SHARD)}, []),
    ],
    ids=["hsdp", "whole tensors beside", "cut outside", "whole", "three dimensions", "fsdp", "both cut", "two meshes"],
)
def test_ranks_that_hold_the_same(state: dict[str, object], expected: list[list[int]]) -> None:
    """Ranks are alike where none of the tensors is cut between them: worked out by counting 0..7 through the mesh."""
    assert expected == replicas(state, rank=0, world_size=8)


@pytest.mark.parametrize(
    ("state", "rank"),
    [
        ({"w": dtensor((4,), SHARD)}, 0),
        ({"w": dtensor((2, 4), REPLICATE, SHARD, coordinate=(1, 0))}, 1),
        ({"w": sharded_tensor(16, 4)}, 0),
    ],
    ids=["a mesh of some ranks", "a mesh in another order", "FSDP1 without a mesh"],
)
def test_copies_that_nobody_names(state: dict[str, object], rank: int) -> None:
    """There are other ranks with the same, and this file does not say which."""
    assert replicas(state, rank=rank, world_size=8) is None


@pytest.mark.parametrize(
    "state",
    [{}, {"w": block(4, 2)}, {"w": sharded_tensor(16, 2)}, {"w": dtensor((8,), PARTIAL)}, {"w": 1}],
    ids=["nothing", "whole tensors", "FSDP1", "partial sums", "no tensor"],
)
def test_no_rank_stands_for_another(state: dict[str, object]) -> None:
    """Whole tensors, shards of all ranks, and what is not understood prove nothing of other ranks."""
    assert [] == replicas(state, rank=0, world_size=8)


def test_a_rank_that_says_where_it_is() -> None:
    """Rank 6 of 2 x 4 is the third of the second row."""
    assert PAIRS == replicas({"w": dtensor((2, 4), REPLICATE, SHARD, coordinate=(1, 2))}, rank=6, world_size=8)
