"""Where the elements of each parameter lie under ZeRO, worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from orz_ckpt.readers.deepspeed import agreement, zero0, zero3, zero12
from orz_ckpt.readers.deepspeed.names import Kind, shard, shards
from orz_ckpt.readers.deepspeed.rounding import Rounding
from orz_ckpt.readers.deepspeed.states import ModelState, OptimizerState
from orz_ckpt.tensors.source import Block, SourceTensor, whole

pytestmark = pytest.mark.unit

ITEM = 4
"""Bytes of an F32."""


def flat(rank: int, numel: int, *, dtype: str = "F32") -> Block:
    return Block(path=Path(f"/rank-{rank}"), offset=1000, dtype=dtype, shape=(numel,), strides=(1,))


def state(
    rank: int, *sizes: int | None, world: int, paddings: tuple[tuple[int, ...], ...] | None = None
) -> OptimizerState:
    return OptimizerState(
        path=Path(f"/rank-{rank}"),
        rank=rank,
        stage=2,
        groups=tuple(None if size is None else flat(rank, size) for size in sizes),
        moments={},
        partitions=(world,),
        paddings=paddings,
        shapes=None,
        version="0.19.8",
        step=1,
        experts="",
    )


def places(tensor: SourceTensor) -> list[tuple[int, str, int, int]]:
    """Return each piece: where it belongs, its file, its first element in the file's tensor, how many."""
    return [
        (piece.start[0], piece.block.path.name, (piece.block.offset - 1000) // ITEM, piece.block.numel)
        for piece in tensor.pieces
    ]


# --- names --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mp_rank_00_model_states.pt", (Kind.MODEL, 0, 0, "")),
        ("mp_rank_07_model_states.pt", (Kind.MODEL, 0, 7, "")),
        ("zero_pp_rank_12_mp_rank_00_model_states.pt", (Kind.MODEL_SHARD, 12, 0, "")),
        ("zero_pp_rank_3_mp_rank_01_optim_states.pt", (Kind.OPTIMIZER, 3, 1, "")),
        ("bf16_zero_pp_rank_3_mp_rank_00_optim_states.pt", (Kind.OPTIMIZER, 3, 0, "bf16")),
        ("fp16_zero_pp_rank_0_mp_rank_00_optim_states.pt", (Kind.OPTIMIZER, 0, 0, "fp16")),
        ("expp_rank_2_mp_rank_00_optim_states.pt", (Kind.EXPERT, 0, 0, "")),
        ("layer_1_expert_2_mp_rank_00_model_states.pt", (Kind.EXPERT, 0, 0, "")),
        ("expert_2_mp_rank_00_model_states.pt", (Kind.EXPERT, 0, 0, "")),
        ("layer_03-model_states.pt", (Kind.LAYER, 0, 0, "")),
        ("layer_03-model_01-model_states.pt", (Kind.LAYER, 0, 0, "")),
    ],
)
def test_a_files_name_says_what_it_holds(name: str, expected: tuple[Kind, int, int, str]) -> None:
    """The names of DeepSpeed 0.19.8, with the rank of data parallelism behind pp_rank."""
    found = shard(Path(name))
    assert found is not None
    assert expected == (found.kind, found.rank, found.model_rank, found.precision)


@pytest.mark.parametrize(
    "name", ["optim_states.pt", "zero_pp_rank_x_mp_rank_00_optim_states.pt", "mp_rank_00_model_states.pt.tmp", "latest"]
)
def test_other_names_are_none(name: str) -> None:
    """A name has to match from its first letter to its last."""
    assert shard(Path(name)) is None


def test_ranks_come_in_the_order_of_numbers(tmp_path: Path) -> None:
    """Rank 10 comes after rank 9, not after rank 1."""
    for rank in range(12):
        (tmp_path / f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt").touch()
    assert list(range(12)) == [entry.rank for entry in shards(tmp_path)]


# --- ZeRO-1, ZeRO-2, BF16_Optimizer -------------------------------------------------------------------

SHAPES = {"a": (3,), "b": (2, 2)}
"""7 elements; on two ranks a partition has ceil(7 / 4) * 2 = 4."""


@pytest.mark.parametrize("last", [3, 4])
def test_a_group_is_cut_into_partitions_of_an_even_size(last: int) -> None:
    """Rank 0 holds a and the first element of b, rank 1 the rest; padding behind it is there or not."""
    found, wrong = zero12.masters([SHAPES], {0: state(0, 4, world=2), 1: state(1, last, world=2)}, 2)
    assert [] == wrong
    assert [(0, "rank-0", 0, 3)] == places(found["a"])
    assert [(0, "rank-0", 3, 1), (1, "rank-1", 0, 3)] == places(found["b"])
    assert ((2, 2), (4,), "F32") == (found["b"].shape, found["b"].grid, found["b"].dtype)


def test_alignment_leaves_gaps_between_parameters() -> None:
    """With one element of padding behind a, b begins at element 4, which is the first of rank 1."""
    paddings = ((1, 0),)
    ranks = {0: state(0, 4, world=2, paddings=paddings), 1: state(1, 4, world=2, paddings=paddings)}
    found, wrong = zero12.masters([SHAPES], ranks, 2)
    assert [] == wrong
    assert [(0, "rank-0", 0, 3)] == places(found["a"])
    assert [(0, "rank-1", 0, 4)] == places(found["b"])


def test_padding_can_be_longer_than_a_partition() -> None:
    """One element over three ranks: partitions of 2, of which the last two hold nothing."""
    ranks = {rank: state(rank, size, world=3) for rank, size in enumerate((1, 0, 0))}
    found, wrong = zero12.masters([{"a": (1,)}], ranks, 3)
    assert ([], [(0, "rank-0", 0, 1)]) == (wrong, places(found["a"]))


def test_each_group_is_cut_on_its_own() -> None:
    """The second group begins a partition of its own: ceil(2 / 4) * 2 = 2 elements on rank 0, none on rank 1."""
    ranks = {0: state(0, 4, 2, world=2), 1: state(1, 3, 0, world=2)}
    found, wrong = zero12.masters([SHAPES, {"c": (2,)}], ranks, 2)
    assert ([], [(0, "rank-0", 0, 2)]) == (wrong, places(found["c"]))


def test_before_0_5_3_partitions_were_aligned_to_ranks_alone() -> None:
    """6 elements on two ranks: 3 and 3, where later versions have 4 and 2."""
    found, wrong = zero12.masters([{"a": (6,)}], {0: state(0, 3, world=2), 1: state(1, 3, world=2)}, 2)
    assert ([], [(0, "rank-0", 0, 3), (3, "rank-1", 0, 3)]) == (wrong, places(found["a"]))


@pytest.mark.parametrize("sizes", [(4, 2), (3, 4), (5, 2), (4, 5), (4, None), (0, 3)])
def test_partitions_that_do_not_add_up_are_found(sizes: tuple[int, int | None]) -> None:
    """7 elements are 4 and 3 (or 4 with padding), and nothing else."""
    found, wrong = zero12.masters([SHAPES], {rank: state(rank, size, world=2) for rank, size in enumerate(sizes)}, 2)
    assert ({}, ["elements_differ"]) == (found, [entry.code for entry in wrong])


# --- ZeRO-3 -------------------------------------------------------------------------------------------


def test_each_parameter_is_cut_over_all_ranks() -> None:
    """Of 5 elements rank 0 holds 3 and rank 1 two and one of padding; of 1 rank 1 holds only padding."""
    found, wrong = zero3.masters([{"a": (5,), "b": (1,)}], {0: state(0, 4, world=2), 1: state(1, 4, world=2)}, 2)
    assert [] == wrong
    assert [(0, "rank-0", 0, 3), (3, "rank-1", 0, 2)] == places(found["a"])
    assert [(0, "rank-0", 3, 1)] == places(found["b"])


def test_a_slice_can_lie_across_sub_groups() -> None:
    """Older versions cut the line of slices anywhere: 4 elements a rank, saved as 1 and 3."""
    ranks = {rank: state(rank, 1, 3, world=2) for rank in (0, 1)}
    found, wrong = zero3.masters([{"a": (5,), "b": (1,)}], ranks, 2)
    assert [] == wrong
    assert [(0, "rank-0", 0, 1), (1, "rank-0", 0, 2), (3, "rank-1", 0, 1), (4, "rank-1", 0, 1)] == places(found["a"])


def test_sub_groups_of_the_wrong_size_are_found() -> None:
    """Each sub-group has to have what its parameters need, on each rank."""
    ranks = {0: state(0, 3, 1, world=2), 1: state(1, 3, 2, world=2)}
    found, wrong = zero3.masters([{"a": (5,)}, {"b": (1,)}], ranks, 2)
    assert ({}, ["elements_differ"]) == (found, [entry.code for entry in wrong])
    assert "rank 1 of 2 has to hold 1 elements in sub-group 1, and holds 2" == wrong[0].message


@pytest.mark.parametrize("empty", [None, 0])
def test_empty_sub_groups_were_swapped_out(empty: int | None) -> None:
    """NVMe offload leaves an empty tensor, or none."""
    ranks = {0: state(0, 3, 1, world=2), 1: state(1, 3, empty, world=2)}
    found, wrong = zero3.masters([{"a": (5,)}, {"b": (1,)}], ranks, 2)
    assert ({}, ["weights_swapped"]) == (found, [entry.code for entry in wrong])


# --- who saved ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ({0: 2, 1: 2}, (2, False)),
        ({8: 16, 9: 16}, (16, False)),
        ({0: 2, 1: 2, 2: 3}, (2, True)),
        ({0: 3, 1: 2, 2: 3}, (3, True)),
        ({0: 4, 1: 4, 2: 4, 3: 4, 4: 8, 5: 8, 6: 8, 7: 8}, (4, True)),
    ],
)
def test_the_number_of_ranks_is_the_one_that_is_whole(named: dict[int, int], expected: tuple[int, bool]) -> None:
    """Of several numbers the one whose ranks are all there, else the one that most shards name."""
    world, findings = agreement.world_of({rank: state(rank, 1, world=count) for rank, count in named.items()})
    assert expected == (world, [entry.code for entry in findings] == ["worlds_mixed"])


@pytest.mark.parametrize(
    ("field", "value", "code", "message"),
    [
        ("step", 3, "steps_mixed", "the model files are of different steps (ranks 0 and 2: step 2; rank 1: step 3)"),
        ("step", 1, "steps_mixed", "the model files are of different steps (rank 1: step 1; ranks 0 and 2: step 2)"),
        (
            "world_size",
            2,
            "worlds_mixed",
            "the model files are of runs with different numbers of ranks (rank 1: of 2; ranks 0 and 2: of 3)",
        ),
    ],
)
def test_the_file_of_another_save_is_named(field: str, value: int, code: str, message: str) -> None:
    """Of three model files of ZeRO-3 the finding is at the one that differs, older or newer, and lists them all."""
    sound = replace(unnamed(Path(), {}), step=2, world_size=3)
    models = {rank: replace(sound, path=Path(f"/model-{rank}")) for rank in range(3)}
    models[1] = replace(models[1], **{field: value})  # type: ignore[arg-type]
    (found,) = agreement.disagreements(models, {})
    assert (code, message, "/model-1") == (found.code, found.message, found.path)


# --- without ZeRO, and rounding -----------------------------------------------------------------------


def write(path: Path, numbers: np.ndarray, dtype: str) -> Block:
    """Append an array to a file, as a block of it."""
    offset = path.stat().st_size if path.exists() else 0
    with path.open("ab") as stream:
        stream.write(numbers.tobytes())
    strides = tuple(stride // numbers.itemsize for stride in numbers.strides)
    return Block(path=path, offset=offset, dtype=dtype, shape=numbers.shape, strides=strides)


def bf16(numbers: np.ndarray) -> np.ndarray:
    """Round numbers that lie far from a tie."""
    return ((numbers.astype("<f4").view("<u4") + 0x7FFF) >> 16).astype("<u2")


def unnamed(path: Path, module: dict[str, list[float]], *groups: list[list[float]]) -> ModelState:
    """Return a model without ZeRO: bf16 weights by name, fp32 ones in groups without."""
    blocks = {name: write(path, bf16(np.array(numbers)), "BF16") for name, numbers in module.items()}
    masters = [[write(path, np.array(numbers, dtype="<f4"), "F32") for numbers in group] for group in groups]
    return ModelState(
        path=path,
        module=blocks,
        buffer_names=frozenset(),
        shapes=None,
        frozen_shapes={},
        frozen_fragments={},
        shared={},
        optimizer={"fp32_groups": masters},
        version="0.19.8",
        step=1,
        skipped_steps=0,
        world_size=1,
        model_parallel=1,
        experts="",
        configured_stage=0,
    )


def test_masters_without_names_are_told_by_order_shape_and_numbers(tmp_path: Path) -> None:
    """Two groups, one frozen weight between: each fp32 tensor goes to the weight that it rounds to."""
    model = unnamed(
        tmp_path / "file",
        {"a": [1.0, 2.0], "frozen": [9.0, 9.0], "b": [3.0, 4.0], "c": [5.0, 6.0]},
        [[1.001, 2.001], [5.001, 6.001]],
        [[3.001, 4.001]],
    )
    found = zero0.masters(model, ["a", "frozen", "b", "c"])
    assert found is not None
    expected = {"a": [1.001, 2.001], "b": [3.001, 4.001], "c": [5.001, 6.001]}
    data = (tmp_path / "file").read_bytes()
    for name, numbers in expected.items():
        (piece,) = found[name].pieces
        assert np.array(numbers, dtype="<f4").tobytes() == data[piece.block.offset :][: piece.block.nbytes], name
    assert expected.keys() == found.keys()


@pytest.mark.parametrize(
    ("module", "groups"),
    [
        # two groups begin with weights that round to the same
        ({"a": [1.0], "b": [1.0]}, [[[1.001]], [[1.002]]]),
        # a frozen weight has the same numbers as a trained one
        ({"frozen": [1.0], "b": [1.0]}, [[[1.001]]]),
        # the numbers are of another step
        ({"a": [1.0], "b": [2.0]}, [[[1.001], [3.0]]]),
    ],
)
def test_masters_that_cannot_be_told_apart_stay_unused(
    module: dict[str, list[float]], groups: list[list[list[float]]], tmp_path: Path
) -> None:
    """A guess that could be wrong is not made."""
    model = unnamed(tmp_path / "file", module, *groups)
    assert zero0.has_masters(model)
    assert zero0.masters(model, list(module)) is None


@pytest.mark.parametrize(
    ("master", "dtype", "weights", "expected"),
    [
        # ties go to even: 0x3F808000 lies between 0x3F80 and 0x3F81, 0x3F818000 between 0x3F81 and 0x3F82
        ([0x3F808000, 0x3F818000], "BF16", [0x3F80, 0x3F82], (0, -1)),
        ([0x3F808000, 0x3F818000], "BF16", [0x3F81, 0x3F81], (2, 0)),
        ([0x3F808001, 0x3F817FFF], "BF16", [0x3F81, 0x3F81], (0, -1)),
        # what is too large becomes infinite, and NaN is NaN whatever its bits
        ([0x7F7FFFFF, 0x7FC00001, 0xFFFFFFFF], "BF16", [0x7F80, 0xFFFF, 0x7FC0], (0, -1)),
        ([0x3F800000, 0x7FC00000, 0x7F800000], "BF16", [0x3F80, 0x7F80, 0x7FC0], (2, 1)),
        # -0.0 is not 0.0
        ([0x80000000], "BF16", [0x0000], (1, 0)),
        # 1 + 2^-11 lies between 0x3C00 and 0x3C01; 65520 is the smallest that becomes infinite
        ([0x3F801000, 0x477FF000, 0x477FEFFF], "F16", [0x3C00, 0x7C00, 0x7BFF], (0, -1)),
        ([0x3F801000], "F16", [0x3C01], (1, 0)),
        ([0x3F800001], "F32", [0x3F800001], (0, -1)),
        ([0x3F800001], "F32", [0x3F800000], (1, 0)),
    ],
)
def test_rounding_is_to_the_nearest_and_ties_to_even(
    master: list[int], dtype: str, weights: list[int], expected: tuple[int, int], tmp_path: Path
) -> None:
    """How many 16-bit weights are not the rounded fp32 ones, and the first of them."""
    exact = write(tmp_path / "a", np.array(master, dtype="<u4"), "F32")
    other = write(tmp_path / "b", np.array(weights, dtype="<u4" if dtype == "F32" else "<u2"), dtype)
    with Rounding() as rounding:
        assert expected == rounding.differing(whole("x", exact), whole("x", other))
