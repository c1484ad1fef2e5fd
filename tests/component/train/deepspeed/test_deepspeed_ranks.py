"""Real DeepSpeed ranks against the local backend: the same gradients, the same updates, the same files."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from blake3 import blake3
from safetensors.torch import load_file
from torch import Tensor

from orz_train.backends.weights.bucket import unpack_bucket
from orz_train.types import reduce_metrics

pytestmark = pytest.mark.component

Case = dict[str, Any]
Record = dict[str, Any]
Recorder = Callable[[str, object], None]
GRADIENT_BOUND = 1e-5
BFLOAT16_BOUND = 0.1
"""Of the whole gradient against that of float32: what rounding inside the model makes."""
UPDATE_BOUND = 1e-3
POISONED = 1
"""Index of the update in `learning` cases whose loss isn't finite on the last rank."""
FLOAT_NOISE = 1e-7
"""Of a step's gradient norm: a parameter whose part is less has none, such as the keys where nothing is to choose."""
SMALL_LR = 1e-12
"""So small that no weight moves: each of many updates has the gradient of the first weights."""


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What a case is about, by its kind.

    `gradient`: many updates at a rate of almost 0. `learning`: four real ones, the second of them not finite, a
    checkpoint after it. `frozen`: scores of a model that isn't trained.
    """

    kind: str
    role: str
    stage: int
    dtype: str = "float32"
    model: str = "untied"
    updates: int = 4
    checkpointing: bool = False
    offload: str = "none"
    reduction: str = "token_mean"
    samples: int | None = None

    @property
    def name(self) -> str:
        """Name the case and its files."""
        more = (self.model, f"u{self.updates}", "gc" if self.checkpointing else "", self.offload)
        more += (self.reduction, f"s{self.samples}" if self.samples else "")
        return "-".join(filter(None, (self.kind, self.role, f"zero{self.stage}", self.dtype, *more)))


def small_suite() -> Iterator[Spec]:
    """Name what every test run plays."""
    yield Spec(kind="gradient", role="policy", stage=0, updates=12)
    yield Spec(kind="gradient", role="critic", stage=1, updates=12)
    yield Spec(kind="gradient", role="critic", stage=2, updates=12)
    yield Spec(kind="gradient", role="policy", stage=3, updates=1, model="tied", checkpointing=True)
    yield Spec(kind="gradient", role="policy", stage=2, updates=3, reduction="row_mean")
    yield Spec(kind="gradient", role="critic", stage=3, updates=1, reduction="sequence_mean")
    yield Spec(kind="gradient", role="policy", stage=3, updates=1, reduction="row_mean", samples=1)
    yield Spec(kind="gradient", role="policy", stage=2, updates=1, dtype="bfloat16")
    yield Spec(kind="learning", role="policy", stage=0)
    yield Spec(kind="learning", role="policy", stage=2, model="tied")
    yield Spec(kind="learning", role="critic", stage=3)
    yield Spec(kind="learning", role="policy", stage=2, dtype="bfloat16")
    yield Spec(kind="learning", role="policy", stage=2, dtype="bfloat16", offload="optimizer")
    yield Spec(kind="frozen", role="reference", stage=2)
    yield Spec(kind="frozen", role="reference", stage=3, model="tied")
    yield Spec(kind="frozen", role="reward", stage=3)


def whole_matrix() -> Iterator[Spec]:
    """Name all stages, roles, precisions, and a few numbers of updates."""
    for stage, role in product((0, 1, 2, 3), ("policy", "critic")):
        for updates, checkpointing in product((1, 12), (False, True)):
            yield Spec(kind="gradient", role=role, stage=stage, updates=updates, checkpointing=checkpointing)
        if stage:
            yield Spec(kind="gradient", role=role, stage=stage, updates=1, dtype="bfloat16")
        for dtype in ("float32", "bfloat16") if stage else ("float32",):  # a run refuses bfloat16 without ZeRO
            yield Spec(kind="learning", role=role, stage=stage, dtype=dtype)
    for stage in (0, 1, 2, 3):
        yield Spec(kind="gradient", role="policy", stage=stage, updates=3, model="tied")
        for reduction, samples in product(("row_mean", "sequence_mean"), (None, 1)):
            yield Spec(kind="gradient", role="policy", stage=stage, updates=1, reduction=reduction, samples=samples)
        yield Spec(kind="learning", role="policy", stage=stage, model="tied")
        yield Spec(kind="frozen", role="reference", stage=stage, dtype="bfloat16")
        yield Spec(kind="frozen", role="reward", stage=stage)
    for dtype, (stage, offload) in product(
        ("float32", "bfloat16"), ((1, "optimizer"), (2, "optimizer"), (3, "optimizer"), (3, "all"))
    ):
        yield Spec(kind="learning", role="critic", stage=stage, dtype=dtype, offload=offload)


PADDED = "padded"
"""The suite of one test alone: others compare all that ranks hold, and padding may differ from rank to rank."""
SUITES: dict[str, tuple[int, list[Spec]]] = {
    "small": (2, list(small_suite())),
    "one-rank": (1, list(whole_matrix())),
    "two-ranks": (2, list(whole_matrix())),
    PADDED: (3, [Spec(kind="learning", role="critic", stage=3, dtype="bfloat16")]),  # few sizes divide by three
}


def of_kind(
    *kinds: str, dtypes: tuple[str, ...] = ("float32", "bfloat16"), role: str | None = None
) -> pytest.MarkDecorator:
    """Parametrize over the cases of some kinds, of one role or all, the whole matrix behind its marker."""
    params = [
        pytest.param(suite, spec, id=f"{suite}-{spec.name}", marks=() if suite == "small" else pytest.mark.full)
        for suite, (_, specs) in SUITES.items()
        for spec in specs
        if suite != PADDED and spec.kind in kinds and spec.dtype in dtypes and role in {None, spec.role}
    ]
    return pytest.mark.parametrize(("suite", "spec"), params)


Played = Callable[[str, Spec], tuple[Case, list[Record]]]


@pytest.fixture(scope="module")
def played(cases: Any, play: Callable[..., dict[str, list[Record]]]) -> Played:
    """Return a function that finds what was played: a case and its records; plays its suite first."""
    suites: dict[str, tuple[dict[str, Case], dict[str, list[Record]]]] = {}

    def write(spec: Spec, num_ranks: int) -> Case:
        lr = SMALL_LR if spec.kind == "gradient" else 1e-3
        config = cases.config(
            stage=spec.stage,
            policy=spec.model,
            lr=lr,
            dtype=spec.dtype,
            gradient_checkpointing=spec.checkpointing,
            offload=spec.offload,
            reduction=spec.reduction,
        )
        case: Case = cases.case(
            spec.name, spec.role, config, num_ranks=num_ranks, num_updates=spec.updates, num_samples=spec.samples
        )
        case["folder"] = cases.models["reward"]
        if spec.kind == "learning":
            case["updates"][POISONED] = poisoned(case["updates"][POISONED])
            case["resume_after"] = POISONED + 1
        return case

    def find(suite: str, spec: Spec) -> tuple[Case, list[Record]]:
        if suite not in suites:
            num_ranks, specs = SUITES[suite]
            written = {spec.name: write(spec, num_ranks) for spec in specs}
            suites[suite] = written, {}  # so that a suite which fails is not played again for every test
            suites[suite] = written, play(num_ranks, list(written.values()))
        written, records = suites[suite]
        return written[spec.name], records[spec.name]

    return find


def poisoned(shards: list[Any]) -> list[Any]:
    """Make the loss of the last rank NaN, and so its gradient."""
    *others, (rows, weights) = shards
    assert any(len(weights_K) for weights_K in weights)
    return [*others, (rows, [torch.full_like(weights_K, torch.nan) for weights_K in weights])]


def distance(expected: Tensor, actual: Tensor) -> float:
    """Return the norm of the difference relative to the expected norm."""
    return float((actual - expected).norm() / expected.norm())


def local_gradient(model: Any) -> dict[str, Tensor]:
    """Copy the accumulated gradient of a local model."""
    return {name: p.grad.clone() for name, p in model.model.named_parameters()}


@of_kind("gradient", dtypes=("bfloat16",))
def test_bfloat16_gradients_are_added_up_in_float32(
    cases: Any, played: Played, record_property: Recorder, suite: str, spec: Spec
) -> None:
    """The sum has the bits of float32, and is as far from the local backend's as rounding in the model makes it."""
    case, records = played(suite, spec)
    model = cases.local(case)
    (shards,) = case["updates"]
    model.backward([rows for rows, _ in shards])
    expected = local_gradient(model)
    for record in records:
        (actual,) = record["gradients"]
        assert {torch.float32} == {gradient.dtype for gradient in actual.values()}
        assert any(not torch.equal(gradient, gradient.bfloat16().float()) for gradient in actual.values())
        far = distance(whole(expected, expected), whole(actual, expected))
        assert far <= BFLOAT16_BOUND
        record_property("largest_difference", far)
    record_property("bound", BFLOAT16_BOUND)


def whole(gradient: dict[str, Tensor], names: Iterable[str]) -> Tensor:
    """Lay the gradients of all parameters out in one vector."""
    return torch.cat([gradient[name].flatten() for name in names])


@of_kind("gradient", dtypes=("float32",))
def test_gradients_and_step_counts_equal_the_local_backends(
    cases: Any, played: Played, record_property: Recorder, suite: str, spec: Spec
) -> None:
    """Any stage and number of ranks, ranks without action tokens among them, gives the local backend's gradients."""
    case, records = played(suite, spec)
    model = cases.local(case)
    counts = [[sum(map(len, weights)) for _, weights in shards] for shards in case["updates"]]
    if len(records) > 1 and (spec.updates == 12 or spec.samples == 1):  # few rows, or fewer than ranks
        assert any(0 in count for count in counts), "no rank was without action tokens"
    for record in records:
        assert spec.updates == len(record["gradients"])
    distances = [0.0]
    for index, shards in enumerate(case["updates"]):
        model.backward([rows for rows, _ in shards])
        expected = local_gradient(model)
        outcome = model.optimizer.step()
        for record in records:
            assert expected.keys() == record["gradients"][index].keys()
            for name, gradient in expected.items():
                actual = record["gradients"][index][name]
                if float(gradient.norm()) < FLOAT_NOISE * outcome.grad_norm:  # 0, but for the order of sums
                    assert float(actual.norm()) < FLOAT_NOISE * outcome.grad_norm, name
                else:
                    distances.append(distance(gradient, actual))
                    assert distances[-1] <= GRADIENT_BOUND, name
        metrics = reduce_metrics(metric for record in records for metric in record["metrics"][index])
        assert outcome.grad_norm == pytest.approx(metrics[f"{spec.role}/grad_norm"], rel=1e-5)
    for record in records:
        steps = {float(state["step"]) for state in record["after"][-1]["moments"]}
        assert {float(state["step"]) for state in model.optimizer.adamw.state.values()} == steps == {spec.updates}
    record_property("largest_difference", max(distances))
    record_property("bound", GRADIENT_BOUND)


@of_kind("learning", dtypes=("float32",))
def test_three_updates_move_the_weights_as_the_local_backend_does(
    cases: Any, played: Played, record_property: Recorder, suite: str, spec: Spec
) -> None:
    """Clipping, decay, moments and schedule agree: each weight's change differs by at most 1e-3 of its norm."""
    case, records = played(suite, spec)
    model = cases.local(case)
    before = {name: p.detach().clone() for name, p in model.model.named_parameters()}
    for index, shards in enumerate(case["updates"]):
        if index == POISONED:
            continue
        expected = reduce_metrics(model.update([rows for rows, _ in shards]))
        actual = reduce_metrics(metric for record in records for metric in record["metrics"][index])
        del expected["memory/peak_bytes"], actual["memory/peak_bytes"]
        assert expected == pytest.approx(actual, rel=1e-3, abs=1e-5)
        assert expected[f"{spec.role}/grad_norm"] > 1, "nothing was clipped"
    distances = []
    for record in records:
        assert model.optimizer.updates == record["after"][-1]["updates"]
        for name, parameter in model.model.named_parameters():
            moved = record["after"][-1]["weights"][name] - before[name]
            distances.append(distance(parameter.detach() - before[name], moved))
            assert distances[-1] <= UPDATE_BOUND, name
    record_property("largest_difference", max(distances))
    record_property("bound", UPDATE_BOUND)


@of_kind("learning")
def test_update_that_is_not_finite_leaves_weights_and_state(played: Played, suite: str, spec: Spec) -> None:
    """A NaN on one rank skips the step on all of them; not one bit of weights, moments or counts changes."""
    _, records = played(suite, spec)
    for record in records:
        assert_same(record["after"][POISONED - 1], record["after"][POISONED])
        assert_differ(record["after"][POISONED]["weights"], record["after"][POISONED + 1]["weights"])
    metrics = reduce_metrics(metric for record in records for metric in record["metrics"][POISONED])
    assert (0, 1) == (metrics[f"{spec.role}/updates"], metrics[f"{spec.role}/skipped_updates"])
    assert math.isnan(metrics[f"{spec.role}/grad_norm"])


@of_kind("learning")
def test_resume_is_bit_for_bit(played: Played, suite: str, spec: Spec) -> None:
    """A model loaded from a checkpoint goes on as the one that wrote it: weights, masters, moments, counts."""
    _, records = played(suite, spec)
    for record in records:
        assert_same(record["after"][-1], record["resumed"])


@of_kind("learning")
def test_a_snapshot_is_written_as_the_same_bytes(played: Played, suite: str, spec: Spec) -> None:
    """Though the next update was taken meanwhile; rank 0 writes the model, each rank its own state."""
    _, records = played(suite, spec)
    for rank, record in enumerate(records):
        written, checkpoint = record["background"], record["checkpoint"]
        assert (rank == 0) == any(name.endswith(".safetensors") for name in written)
        assert any(name.startswith("state/") for name in written)
        assert written == {name: blake3(checkpoint.joinpath(name).read_bytes()).hexdigest() for name in written}


def test_no_padding_is_saved(played: Played) -> None:
    """What ZeRO-3 pads slices with may be a NaN in memory, and is none in a checkpoint; training goes on the same."""
    (spec,) = SUITES[PADDED][1]
    _, records = played(PADDED, spec)
    assert sum(record["padding"] for record in records) > 0
    for rank, record in enumerate(records):
        name = f"{spec.role}-rank-{rank}-of-{len(records)}.pt"
        state = torch.load(record["checkpoint"] / "state" / name, weights_only=True)
        saved = [*state["masters"], *(value for moments in state["moments"] for value in moments.values())]
        assert saved
        assert all(torch.isfinite(tensor).all() for tensor in saved)
        torch.testing.assert_close(record["resumed"]["weights"], record["after"][-1]["weights"], atol=0, rtol=0)


@of_kind("learning")
def test_state_that_does_not_fit_is_refused(played: Played, suite: str, spec: Spec) -> None:
    """State is cut by stage and ranks; another stage, another number of ranks and no file at all are errors."""
    _, records = played(suite, spec)
    for rank, record in enumerate(records):
        stage, ranks, none = record["refused_state"]
        assert f"saved as v 1, zero_stage {spec.stage}" in stage
        assert f"this run is v 1, zero_stage {(spec.stage + 1) % 4}" in stage
        assert f"the {spec.role}'s state was saved by 7 ranks, this run has {len(records)}" in ranks
        assert f"{spec.role}-rank-{rank}-of-{len(records)}.pt: the {spec.role}'s state is missing" in none


@of_kind("learning", dtypes=("float32",))
def test_saved_folder_is_the_one_the_local_backend_would_write(
    cases: Any, played: Played, tmp_path: Path, suite: str, spec: Spec
) -> None:
    """Names, bits, configuration and tokenizer: a local model that loads the folder writes the same folder."""
    case, records = played(suite, spec)
    folder = records[0]["checkpoint"] / spec.role
    cases.local(case, folder).save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in folder.iterdir())
    for expected in tmp_path.iterdir():
        assert expected.read_bytes() == (folder / expected.name).read_bytes(), expected.name
    saved = load_file(folder / "model.safetensors")
    weights = records[0]["after"][POISONED]["weights"]
    assert weights.keys() == saved.keys()
    assert all(torch.equal(weights[name], saved[name]) for name in weights)


@of_kind("learning")
def test_saved_weights_keep_their_precision(played: Played, suite: str, spec: Spec) -> None:
    """The folder holds the precision that the run computes in, in weights and in configuration."""
    _, records = played(suite, spec)
    folder = records[0]["checkpoint"] / spec.role
    assert {f"torch.{spec.dtype}"} == {str(x.dtype) for x in load_file(folder / "model.safetensors").values()}
    assert spec.dtype == json.loads((folder / "config.json").read_text())["dtype"]


@of_kind("gradient", "learning")
def test_scores_equal_the_local_backends(cases: Any, played: Played, suite: str, spec: Spec) -> None:
    """Log-probs and values are the local backend's, on the CPU in f32; in bfloat16 but for its rounding."""
    case, records = played(suite, spec)
    model = cases.local(case)
    tolerance = {"atol": 2e-6, "rtol": 1e-5} if spec.dtype == "float32" else {"atol": 0.3, "rtol": 0.1}
    for rows, record in zip(case["score_rows"], records, strict=True):
        expected = model.logprobs(rows) if spec.role == "policy" else model.values(rows)
        torch.testing.assert_close(record["scores"], expected, **tolerance)


@of_kind("gradient", "learning")
def test_bucket_holds_what_a_generator_loads(played: Played, suite: str, spec: Spec) -> None:
    """Rank 0 alone packs the weights, by their names in the folder, a tied head once."""
    _, (first, *others) = played(suite, spec)
    assert all(other["bucket"] is None for other in others)
    assert [param.name for param in first["params"]] == [param.name for param in first["bucket"].params]
    assert ("lm_head.weight" in first["after"][-1]["weights"]) == (spec.role == "policy" and spec.model == "untied")
    unpacked = dict(unpack_bucket(first["bucket"]))
    assert first["params"] == list(first["bucket"].params)
    for name, tensor in first["after"][-1]["weights"].items():
        assert torch.equal(tensor, unpacked[name]), name


@of_kind("gradient", "learning", role="policy")
def test_every_rank_gathers_what_it_sends(played: Played, suite: str, spec: Spec) -> None:
    """In several groups, in the order of `params`; a tensor stays after the groups that follow have been gathered."""
    for record in played(suite, spec)[1]:
        assert len(record["groups"]) > 1
        named = [pair for group in record["groups"] for pair in group]
        assert [param.name for param in record["params"]] == [name for name, _ in named]
        for name, tensor in named:
            assert torch.equal(record["after"][-1]["weights"][name], tensor), name


@of_kind("learning")
def test_rank_holds_only_its_shard_between_steps(played: Played, suite: str, spec: Spec) -> None:
    """Under ZeRO-3 what is no larger than a bias or norm may stay whole, nothing else, even after a gathering."""
    _, records = played(suite, spec)
    for record in records:
        weights = record["after"][-1]["weights"].values()
        longest_vector = max(tensor.numel() for tensor in weights if tensor.ndim <= 1)
        small = sum(tensor.numel() for tensor in weights if tensor.numel() <= longest_vector)
        whole = sum(tensor.numel() for tensor in weights)
        held = {after["held"] for after in record["after"]}
        assert max(held) <= small < whole / 10 if spec.stage == 3 else {whole} == held


@of_kind("frozen")
def test_frozen_models_score_as_they_do_alone(cases: Any, played: Played, suite: str, spec: Spec) -> None:
    """A reference gives the local backend's log-probs, a reward model what transformers gives for each sequence."""
    case, records = played(suite, spec)
    tolerance = {"atol": 2e-6, "rtol": 1e-5} if spec.dtype == "float32" else {"atol": 0.3, "rtol": 0.1}
    for rows, record in zip(case["score_rows"], records, strict=True):
        if spec.role == "reference":
            expected = cases.local({**case, "role": "policy"}).logprobs(rows)
        else:
            expected = [cases.rewards(row) for row in rows]
        torch.testing.assert_close(record["scores"], expected, **tolerance)


def test_ranks_compile_nothing_and_refuse_another_device(played: Played) -> None:
    """Ranks need no compiler and leave no half-built operator; one that is to use a GPU doesn't train on a CPU."""
    for spec in SUITES["small"][1]:
        for record in played("small", spec)[1]:
            assert [] == record["compiled"]
            assert "is to compute on cuda, but DeepSpeed chose cpu" in record["refused_device"]


def assert_same(expected: dict[str, Any], actual: dict[str, Any]) -> None:
    """Two snapshots hold the same bits."""
    for key in ("updates", "weights", "masters", "moments"):
        torch.testing.assert_close(actual[key], expected[key], atol=0, rtol=0)


def assert_differ(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    """Something moved."""
    assert any(not torch.equal(one[name], other[name]) for name in one)
