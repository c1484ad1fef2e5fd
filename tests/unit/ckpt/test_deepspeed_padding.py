"""Which elements of a rank's flat tensors are parameters', worked out by hand, and what a pass over them leaves out."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from orz_ckpt.formats.cut_contents import cut
from orz_ckpt.formats.safetensors import Tensor
from orz_ckpt.formats.torch_contents import TorchContents
from orz_ckpt.readers.deepspeed.padding import packed_fragments, packed_partitions, packed_slices
from orz_ckpt.readers.deepspeed.states import ModelState, OptimizerState
from orz_ckpt.tensors.source import Block, Packed, Piece, SourceTensor

pytestmark = pytest.mark.unit


def flat(numel: int, offset: int = 0) -> Block:
    return Block(path=Path("/shard"), offset=offset, dtype="F32", shape=(numel,), strides=(1,))


def state(
    groups: Iterable[Block | None],
    moments: dict[int, list[Block]] | None = None,
    paddings: tuple[tuple[int, ...], ...] | None = None,
) -> OptimizerState:
    return OptimizerState(
        path=Path("/shard"),
        rank=0,
        stage=3,
        groups=tuple(groups),
        moments=moments or {},
        partitions=(2,),
        paddings=paddings,
        shapes=None,
        version="0.19.8",
        step=1,
        experts="",
    )


def model(shapes: dict[str, tuple[int, ...]], fragments: dict[str, Block]) -> ModelState:
    return ModelState(
        path=Path("/shard"),
        module=None,
        buffer_names=frozenset(),
        shapes=(),
        frozen_shapes=shapes,
        frozen_fragments=fragments,
        shared={},
        optimizer={},
        version="0.19.8",
        step=1,
        skipped_steps=0,
        world_size=2,
        model_parallel=1,
        experts="",
        configured_stage=3,
    )


# --- ZeRO-3 -------------------------------------------------------------------------------------------


def test_one_rank_alone_knows_its_padding() -> None:
    """Of 5, 1 and 4 elements two ranks hold 3, 1 and 2 each; of the second one, 2, none and 2 are no padding."""
    shapes = [{"a": (5,), "b": (1,), "c": (2, 2)}]
    (first,) = packed_slices(shapes, {0: state([flat(6)])}, 2)
    (second,) = packed_slices(shapes, {1: state([flat(6)])}, 2)
    assert (("a", 0, 3), ("b", 3, 4), ("c", 4, 6)) == first.held
    assert (("a", 0, 2), ("c", 4, 6)) == second.held


def test_sub_groups_may_cut_a_slice() -> None:
    """Older versions cut the line of slices anywhere: rank 1's two of a are the first ones of sub-groups of 1 and 3."""
    shapes = [{"a": (5,), "b": (1,)}]
    found = [packed.held for packed in packed_slices(shapes, {1: state([flat(1), flat(3)])}, 2)]
    assert [(("a", 0, 1),), (("a", 0, 1),)] == found


def test_a_sub_group_of_padding_alone_is_known_to_be_that() -> None:
    """Of one element rank 1 holds only padding: nothing in it is anybody's."""
    (found,) = packed_slices([{"b": (1,)}], {1: state([flat(1)])}, 2)
    assert () == found.held


def test_moments_lie_as_the_weights_do() -> None:
    """Both of Adam's averages of the second sub-group, and nothing whose size is another."""
    average, square = flat(1, 100), flat(1, 200)
    shards = state([flat(3), flat(1)], {1: [average, square, flat(7, 300)], 5: [flat(1, 400)]})
    found = packed_slices([{"a": (5,)}, {"b": (1,)}], {0: shards}, 2)
    assert [(0, "a"), (0, "b"), (100, "b"), (200, "b")] == [
        (packed.block.offset, packed.held[0][0]) for packed in found
    ]


@pytest.mark.parametrize("groups", [[flat(5)], [flat(3), None]])
def test_shards_that_do_not_fit_the_shapes_say_nothing(groups: list[Block | None]) -> None:
    """Two ranks hold 4 elements each of 5 and 1; in 5, or in 3 and a sub-group on NVMe, nobody knows which."""
    assert [] == list(packed_slices([{"a": (5,)}, {"b": (1,)}], {0: state(groups)}, 2))


def test_frozen_slices_are_padded_likewise() -> None:
    """A frozen parameter of 5 elements: rank 1 holds 3 numbers, 2 of them its own."""
    (found,) = packed_fragments({1: model({"f": (5,)}, {"f": flat(3)})}, 2)
    assert (flat(3), (("f", 0, 2),)) == (found.block, found.held)
    assert [] == list(packed_fragments({1: model({"f": (5,)}, {"f": flat(4)})}, 2))


# --- ZeRO-1, ZeRO-2, BF16_Optimizer -------------------------------------------------------------------


def test_partitions_are_padded_behind_the_last_parameter() -> None:
    """7 elements on two ranks are 4 and 4, the last of them padding; the moments keep it where the weights do not."""
    ranks = {0: state([flat(4)]), 1: state([flat(3)], {0: [flat(4, 100)]})}
    found = list(packed_partitions([{"a": (3,), "b": (2, 2)}], ranks, 2))
    assert [(("a", 0, 3), ("b", 3, 4)), (("b", 0, 3),), (("b", 0, 3),)] == [packed.held for packed in found]
    assert [4, 3, 4] == [packed.block.numel for packed in found]


def test_alignment_is_padding_too() -> None:
    """With one element of padding behind a, element 3 of rank 0 is nobody's."""
    ranks = {rank: state([flat(4)], paddings=((1, 0),)) for rank in (0, 1)}
    found = packed_partitions([{"a": (3,), "b": (4,)}], ranks, 2)
    assert [(("a", 0, 3),), (("b", 0, 4),)] == [packed.held for packed in found]


def test_partitions_that_do_not_add_up_say_nothing() -> None:
    """7 elements are 4 and 3, or 4 with padding, and nothing else; nor is there a second group."""
    assert [] == list(packed_partitions([{"a": (7,)}], {0: state([flat(5)])}, 2))
    assert [] == list(packed_partitions([{"a": (7,)}], {0: state([flat(4), flat(4)])}, 2))


# --- what is left to look at --------------------------------------------------------------------------


def contents(block: Block) -> TorchContents:
    stretch = Tensor(
        name=str(block.offset), dtype=block.dtype, shape=block.shape, offset=block.offset, nbytes=block.nbytes
    )
    return TorchContents(
        tensors=(stretch,),
        file_bytes=1000,
        records=(),
        views={stretch.name: (("groups.0", block),)},
        scattered={},
        named={"groups.0": block},
    )


def test_padding_is_cut_out_of_what_is_looked_at() -> None:
    """Elements 0-2 and 4-6 of 7 numbers from byte 64 on: bytes 64-72 and 80-88, by their parameters' names."""
    block = flat(7, 64)
    held = (("a", 0, 2), ("b", 4, 6), ("none", 6, 6))
    found, parts = cut(contents(block), [], [Packed(block=block, held=held)])
    assert [(64, 8, "groups.0 of a"), (80, 8, "groups.0 of b")] == [
        (tensor.offset, tensor.nbytes, found.views[tensor.name][0][0]) for tensor in found.tensors
    ]
    assert {} == parts


def test_what_is_here_of_a_torn_tensor_is_looked_at_beside_one_that_is_whole() -> None:
    """With a whole in the block and half of b, whose other half is missing, both are looked at: only a is a part."""
    block = flat(4, 64)
    whole = SourceTensor(
        name="a", dtype="F32", shape=(2,), grid=(2,), pieces=(Piece(block=block.flat(0, 2), start=(0,)),)
    )
    packed = Packed(block=block, held=(("a", 0, 2), ("b", 2, 3)))
    found, parts = cut(contents(block), [(whole, whole.pieces[0])], [packed])
    assert [(64, 8, "a"), (72, 4, "groups.0 of b")] == [
        (tensor.offset, tensor.nbytes, found.views[tensor.name][0][0]) for tensor in found.tensors
    ]
    assert ["64"] == list(parts)


def test_nothing_but_padding_leaves_nothing() -> None:
    """A block of padding alone has no number to look at."""
    block = flat(3, 64)
    assert () == cut(contents(block), [], [Packed(block=block, held=())])[0].tensors
    assert 1 == len(cut(contents(block), [])[0].tensors)
