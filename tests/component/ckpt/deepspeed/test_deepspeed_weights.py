"""Real DeepSpeed checkpoints, bit for bit: what the live engine held, and what DeepSpeed's own tool makes of them."""

from __future__ import annotations

import json
import random
import shutil
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from orz_ckpt.readers.deepspeed import masters_differ, read
from orz_ckpt.tensors.cast import Caster
from orz_ckpt.tensors.coverage import check_coverage
from orz_cli.findings import Severity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from orz_ckpt.tensors.source import Source

pytestmark = pytest.mark.component

Case = dict[str, Any]
Numbers = tuple[str, tuple[int, ...], bytes]
Tensors = dict[str, Numbers]
ONE_COPY = 3
"""The stage without a second copy of the weights."""
SMALL = (
    "zero2",
    "zero2-older",
    "zero2-aligned",
    "zero2-empty",
    "zero3",
    "zero3-nodes",
    "zero1",
    "zero1-bf16",
    "zero0",
)
OPTIONS: dict[str, Case] = {
    "frozen": {"frozen": True},
    "excluded": {"frozen": True, "exclude_frozen": True},
    "tied": {"tied": True},
    "buffers": {"buffers": True},
    "empty": {"empty": True},
    "groups": {"groups": 2},
    "legacy": {"config": {"checkpoint": {"checkpoint_serialization": False}}},
    "sums": {"config": {"data_types": {"grad_accum_dtype": "fp32"}}},
    "sub-groups": {"zero": {"sub_group_size": 30}},
    "threshold": {"zero": {"stage3_param_persistence_threshold": 0}},
    "aligned": {"zero": {"parameter_alignment": True}},
    "turns": {"zero": {"round_robin_gradients": True}},
    "elastic": {"zero": {"elastic_checkpoint": True}},
    "offload": {"zero": {"offload_optimizer": {"device": "cpu"}}, "config": {"zero_force_ds_cpu_optimizer": False}},
}
"""What a case may have, each on its own."""
ONLY_FOR = {
    "sums": {1, 2, 3},
    "sub-groups": {3},
    "threshold": {3},
    "aligned": {1, 2},
    "turns": {1, 2},
    "elastic": {1, 2},
    "offload": {1, 2, 3},
}
"""Stages at which an option means something; all where it is not named."""
NUM_RANDOM = 12


def whole_matrix() -> Iterator[tuple[int, Case]]:
    """Name ranks and case of all stages and precisions, of each option on its own, and of some combinations."""
    for ranks, stage, dtype in product((2, 3), range(4), ("float32", "bfloat16")):
        yield ranks, make(ranks, stage, dtype)
    for ranks, option, stage in product((2, 3), OPTIONS, range(4)):
        if stage in ONLY_FOR.get(option, range(4)):
            yield ranks, make(ranks, stage, "float32" if (stage, option) == (3, "legacy") else "bfloat16", option)
    chance = random.Random(20261122)  # noqa: S311  the same combinations every time
    for _ in range(NUM_RANDOM):
        ranks, stage = chance.choice((2, 3)), chance.choice(range(4))
        possible = [option for option in OPTIONS if stage in ONLY_FOR.get(option, range(4))]
        options = sorted(chance.sample(possible, chance.randint(2, min(5, len(possible)))))
        if stage == ONE_COPY and {"empty", "excluded"} <= set(options):
            options.remove("empty")  # without the frozen ones DeepSpeed saves no shape of them
        yield ranks, make(ranks, stage, chance.choice(("float32", "bfloat16")), *options)


def make(ranks: int, stage: int, dtype: str, *options: str) -> Case:
    """Return a case with options laid over each other."""
    case: Case = {"stage": stage, "dtype": dtype, "buffers": False, "zero": {}, "config": {}}
    for option in options:
        for key, value in OPTIONS[option].items():
            case[key] = {**case[key], **value} if isinstance(value, dict) else value
    return {"name": "-".join((f"zero{stage}", dtype, f"{ranks}ranks", *options)), **case}


MATRIX = list(whole_matrix())


@pytest.fixture(scope="session")
def matrix(play: Callable[[int, Sequence[Case]], dict[str, Any]]) -> dict[str, Any]:
    """Everything in the matrix, played."""
    played: dict[str, Any] = {}
    for ranks in (2, 3):
        played |= play(ranks, list({case["name"]: case for count, case in MATRIX if count == ranks}.values()))
    return played


@pytest.fixture
def played(request: pytest.FixtureRequest) -> Any:
    """The case of a test, from the small suite or from the matrix."""
    suite, name = request.param
    return request.getfixturevalue(suite)[name]


EACH = pytest.mark.parametrize(
    "played",
    [
        *(pytest.param(("small", name), id=name) for name in SMALL),
        *(
            pytest.param(("matrix", name), id=f"matrix-{name}", marks=pytest.mark.full)
            for name in dict.fromkeys(case["name"] for _, case in MATRIX)
        ),
    ],
    indirect=True,
)


def case_of(folder: Path) -> Case:
    """Return the case that was played in a folder."""
    return next(case for case in json.loads((folder.parent / "cases.json").read_text()) if case["name"] == folder.name)


def saved(found: Tensors, folder: Path) -> Tensors:
    """Leave out what a save without frozen parameters leaves out."""
    frozen = {"second.weight", "norm.weight", "norm.bias"} if case_of(folder).get("exclude_frozen") else set()
    return {name: value for name, value in found.items() if name not in frozen}


@EACH
def test_tensors_are_those_of_the_live_engine(played: Any, tensors: Callable[[Source], Tensors]) -> None:
    """Every parameter, under every name, and every persistent buffer: type, shape and bits of the engine's masters."""
    source = read(played.checkpoint, tag="global_step2")
    assert () == source.findings
    assert [] == check_coverage(source)
    assert saved(played.engine("masters"), played.folder) == tensors(source)
    assert (2, "deepspeed 0.19.8") == (source.step, source.writer)


@EACH
def test_the_module_is_what_the_engine_computed_with(played: Any, tensors: Callable[[Source], Tensors]) -> None:
    """With prefer="module" the 16-bit weights come as they are, except under ZeRO-3, which has none."""
    source = read(played.checkpoint, tag="global_step2", prefer="module")
    expected = played.engine("masters" if source.format == "deepspeed-zero3" else "weights")
    assert () == source.findings
    assert saved(expected, played.folder) == tensors(source)


@EACH
def test_masters_round_to_the_module(played: Any) -> None:
    """Both copies of an intact checkpoint agree, and all that have two copies are compared."""
    source = read(played.checkpoint, tag="global_step2")
    findings, compared = masters_differ(played.checkpoint, tag="global_step2")
    assert [] == findings
    weights = read(played.checkpoint, tag="global_step2", prefer="module").tensors
    assert sum(weights[name].pieces != tensor.pieces for name, tensor in source.tensors.items()) == compared
    has_copies = source.format != "deepspeed-zero3" and played.facts["optimizer"] != "AdamW"
    assert has_copies is (compared > 0)


@EACH
def test_tensors_are_those_of_the_tool(played: Any, tensors: Callable[[Source], Tensors]) -> None:
    """Where DeepSpeed's own `zero_to_fp32` reads a checkpoint, each tensor it gives is ours, bit for bit.

    It reads none without ZeRO, of BF16_Optimizer, or in the older container. It makes fp32 of floating-point buffers,
    and one shape of all parameters without elements.
    """
    refused = any(reason in played.said("tool") for reason in ("NoneType", "not a zero checkpoint", "mmap can only"))
    assert refused is bool(played.said("tool"))
    source = read(played.checkpoint, tag="global_step2")
    legacy = "checkpoint_serialization" in json.dumps(case_of(played.folder))
    assert refused is (source.format == "deepspeed-zero0" or played.facts["optimizer"] == "BF16_Optimizer" or legacy)
    ours = tensors(source)
    for name, theirs in ({} if refused else played.engine("tool")).items():
        if theirs[2]:
            assert theirs == as_dtype(ours[name], theirs[0]), name


def as_dtype(numbers: Numbers, dtype: str) -> Numbers:
    """Return bf16 numbers as fp32 where that is asked for."""
    if numbers[0] == dtype:
        return numbers
    assert ("BF16", "F32") == (numbers[0], dtype)
    wide = np.frombuffer(numbers[2], dtype="<u2").astype("<u4") << 16
    return dtype, numbers[1], wide.tobytes()


@pytest.mark.parametrize("name", ["zero2", "zero3"])
def test_a_universal_checkpoint_has_the_same_tensors(
    name: str, small: dict[str, Any], tensors: Callable[[Source], Tensors]
) -> None:
    """What `ds_to_universal` makes of a tag reads as the tag itself, frozen weights and buffers in their own types."""
    source = read(small[name].checkpoint, tag="universal")
    assert ("deepspeed-universal", 2, ()) == (source.format, source.step, source.findings)
    assert small[name].engine("masters") == tensors(source)
    assert {"head.weight": "embed.weight"} == source.aliases


def test_an_older_layout_has_the_same_tensors(small: dict[str, Any], tensors: Callable[[Source], Tensors]) -> None:
    """Shapes as one dictionary in the optimizer's files, as DeepSpeed wrote them until 0.5.3."""
    source = read(small["zero2-older"].checkpoint, tag="older")
    assert () == source.findings
    assert small["zero2-older"].engine("masters") == tensors(source)


def test_tensors_come_in_the_order_of_the_module(small: dict[str, Any]) -> None:
    """The order is that of the module's state_dict, buffers among the parameters, whatever the groups are."""
    expected = ["scale", "seen", "mask", "embed.weight", "first.weight", "first.bias", "norm.weight", "norm.bias"]
    for name in ("zero2", "zero3", "zero1", "zero0"):
        found = list(read(small[name].checkpoint, tag="global_step2").tensors)
        assert [*expected, "norm.shift", "second.weight"] == found[:10], name


def test_the_tool_crashes_on_tied_weights_and_this_does_not(small: dict[str, Any]) -> None:
    """`zero_to_fp32 --safe_serialization` refuses tensors that share memory; a tie is an alias here."""
    assert "share memory" in small["zero2"].said("export")
    assert {"head.weight": "embed.weight"} == read(small["zero2"].checkpoint, tag="global_step2").aliases


def test_the_tool_drops_frozen_weights_of_zero1_and_this_does_not(small: dict[str, Any]) -> None:
    """ZeRO-1 lists no frozen parameters; they are in the module all the same."""
    frozen = {"second.weight", "norm.weight", "norm.bias"}
    assert frozen == small["zero1"].engine("masters").keys() - small["zero1"].engine("tool").keys()
    assert frozen <= read(small["zero1"].checkpoint).tensors.keys()


def test_the_tool_refuses_bf16_optimizer_and_this_does_not(small: dict[str, Any]) -> None:
    """BF16_Optimizer writes the partitions of ZeRO-1 without saying so."""
    case = small["zero1-bf16"]
    assert "BF16_Optimizer" == case.facts["optimizer"]
    assert "is not a zero checkpoint" in case.said("tool")
    source = read(case.checkpoint)
    assert ("deepspeed-zero1", "BF16_Optimizer") == (source.format, source.facts["optimizer"])


def test_the_tool_refuses_legacy_files_and_this_does_not(small: dict[str, Any]) -> None:
    """`checkpoint_serialization: false` writes the older container, which cannot be mapped."""
    assert "mmap can only be used" in small["zero3-nodes"].said("tool")
    assert 11 == len(read(small["zero3-nodes"].checkpoint).tensors | read(small["zero3-nodes"].checkpoint).aliases)


def test_the_tool_takes_parameters_without_elements_for_tied_and_this_does_not(small: dict[str, Any]) -> None:
    """All of them lie at address 0, so `shared_params` names them, and the tool gives one the other's shape."""
    assert (0, 3) == small["zero2-empty"].engine("tool")["spare.nothing"][1]
    source = read(small["zero2-empty"].checkpoint)
    assert ({}, (2, 0)) == (source.aliases, source.tensors["spare.nothing"].shape)


def test_the_tool_refuses_checkpoints_without_zero_and_this_does_not(small: dict[str, Any]) -> None:
    """Without ZeRO the masters have no names; they are found by the numbers that both copies have in common."""
    assert "NoneType" in small["zero0"].said("tool")
    source = read(small["zero0"].checkpoint)
    assert ("deepspeed-zero0", "F32") == (source.format, source.tensors["first.weight"].dtype)


def test_fp32_weights_that_may_be_of_either_name(
    broken: Callable[[str], Path], tensors: Callable[[Source], Tensors]
) -> None:
    """Where a frozen weight has a trained one's numbers, nothing says whose the masters are: 16 bits, and a warning."""
    path = broken("zero0")
    (file,) = path.glob("global_step2/*")
    content = torch.load(file, weights_only=False)
    module = content["module"]
    module["norm.bias"] = module["first.bias"].clone()
    torch.save(content, file)
    source = read(path)
    (found,) = source.findings
    assert ("masters_unnamed", Severity.WARN, str(file)) == (found.code, found.severity, found.path)
    stored = {
        name: tensor.contiguous().view(torch.uint8).numpy().tobytes() for name, tensor in module.items() if tensor.dim()
    }
    assert stored == {name: bits for name, (_, shape, bits) in tensors(source).items() if shape}
    assert () == read(path, prefer="module").findings


def test_a_conversion_that_swaps_weights_is_found(small: dict[str, Any]) -> None:
    """`ds_to_universal` of DeepSpeed 0.19.8 cuts round-robin partitions in another order than they have."""
    findings, compared = masters_differ(small["zero1"].checkpoint, tag="universal")
    assert {"first.weight", "head.weight"} == {entry.tensor for entry in findings}
    assert {"master_differs"} == {entry.code for entry in findings}
    assert 5 == compared


@pytest.mark.full
def test_converted_tensor_parallelism_is_read(
    play: Callable[[int, Sequence[Case]], dict[str, Any]], tensors: Callable[[Source], Tensors]
) -> None:
    """The remedy for tensor parallelism works: the fp32 weights round to those that the engine gathers, all of them."""
    tensor = play(2, [{"name": "tensor", "layout": "tensor", "stage": 1}])["tensor"]
    assert ["layout_unsupported"] == [entry.code for entry in read(tensor.checkpoint).findings]
    source = read(tensor.checkpoint, tag="universal")
    live, found = tensor.engine("weights-0"), tensors(source)
    assert () == source.findings
    assert live.keys() == found.keys()
    for name, (dtype, shape, bits) in live.items():
        rounded = memoryview(bytearray(len(bits)))
        Caster().cast(memoryview(found[name][2]), "F32", rounded, dtype)
        assert (shape, bits) == (found[name][1], bytes(rounded)), name


@pytest.mark.full
def test_ranks_of_two_runs_are_told_apart(matrix: dict[str, Any], tmp_path: Path) -> None:
    """Two ranks saved over a tag of three, or three over a tag of two that was cut off: both are named."""
    three, two = matrix["zero2-bfloat16-3ranks"].tag, matrix["zero2-bfloat16-2ranks"].tag
    restarted = tmp_path / "restarted"
    shutil.copytree(three, restarted)
    shutil.copytree(two, restarted, dirs_exist_ok=True)
    found = {entry.code: entry.message for entry in read(restarted).findings}
    said = "the shards are of runs with different numbers of ranks (ranks 0-1: of 2; rank 2: of 3)"
    assert {"worlds_mixed": said, "shard_stale": "it is of rank 2, and 2 ranks saved this checkpoint (0-1)"} == found
    cut = tmp_path / "cut"
    shutil.copytree(two, cut)
    for file in (*three.glob("mp_rank_*"), *three.glob("*pp_rank_[02]_*")):
        shutil.copy(file, cut)
    assert "worlds_mixed" in {entry.code for entry in read(cut).findings}
