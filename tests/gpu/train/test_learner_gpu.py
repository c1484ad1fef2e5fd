"""DeepSpeed's ranks on an NVIDIA GPU against the local backend on the CPU: gradients, updates, naps, files."""

from __future__ import annotations

import subprocess
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from orz_train.data.packing import Packing
from orz_train.types import reduce_metrics

pytestmark = [
    pytest.mark.component,
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs 1 NVIDIA GPU and the CUDA lock"),
]

Case = dict[str, Any]
Record = dict[str, Any]
ORZ = Path(sysconfig.get_path("scripts")) / "orz"
GRADIENT_BOUND = 2e-5
"""Of a parameter's gradient in float32, relative to its norm: other kernels add up in other orders, 8e-6 on an H200."""
BFLOAT16_BOUND = 0.1
"""Of the whole gradient against that of float32: what rounding inside the model makes."""
UPDATE_BOUND = 1e-3
"""Of the change of all weights over three updates, relative to its norm."""
WEIGHT_BOUND = 0.05
"""Of a single weight's change: AdamW divides by gradients that are nearly 0, and of the keys' biases they are noise."""
FLOAT_NOISE = 1e-6
"""Of a step's gradient norm: a parameter whose part is less has none, such as the keys where nothing is to choose."""
ASLEEP = 0.01
"""Of the bytes of a model's weights, masters and moments: what may stay on the GPU while it is away."""
DEEPSPEEDS_OWN = 2
"""Sizes of the largest parameter that may stay, too, where the optimizer waits on the CPU below ZeRO-3: DeepSpeed's
buffer for gradients on their way there, which nobody moves. On an H200 1.0 stayed in bfloat16, 1.5 in float32."""
POISONED = 1
"""Index of the update in `learning` cases whose loss isn't finite."""
SMALL_LR = 1e-12
"""So small that no weight moves: each of many updates has the gradient of the first weights."""
ROW_TOKENS = (24, 200)
"""Many rows of one or two rollouts; all rollouts of an update in one row."""
OFFLOADS = (("none", (0, 1, 2, 3)), ("optimizer", (1, 2, 3)), ("all", (3,)))
"""What waits in the CPU's memory, and the stages that can do so."""


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What a case is about: the gradients of the first weights (`gradient`), or four updates with naps (`learning`)."""

    kind: str
    role: str
    stage: int
    dtype: str = "float32"
    model: str = "untied"
    offload: str = "none"
    algorithm: str = "ppo"
    row_tokens: int = 24

    @property
    def name(self) -> str:
        """Name the case and its files."""
        more = (self.model, self.offload, self.algorithm, str(self.row_tokens))
        return "-".join((self.kind, self.role, f"zero{self.stage}", self.dtype, *more))


def all_specs() -> Iterator[Spec]:
    """Name what is played, all of it in one process."""
    for stage, role in product((0, 1, 2, 3), ("policy", "critic")):
        for row_tokens in ROW_TOKENS:
            yield Spec(kind="gradient", role=role, stage=stage, row_tokens=row_tokens)
        if stage:  # a run refuses bfloat16 without ZeRO
            yield Spec(kind="gradient", role=role, stage=stage, dtype="bfloat16")
    for stage in (0, 1, 2, 3):
        yield Spec(kind="learning", role="critic", stage=stage)
    yield Spec(kind="gradient", role="policy", stage=3, model="tied")
    yield Spec(kind="gradient", role="policy", stage=2, algorithm="grpo")
    for offload, stages in OFFLOADS:
        for stage, dtype in product(stages, ("float32", "bfloat16")):
            if dtype == "float32" or stage > 1 or (stage and offload != "none"):  # what a run doesn't refuse
                yield Spec(kind="learning", role="policy", stage=stage, dtype=dtype, offload=offload, model="wide")


SPECS = list(all_specs())
Played = Callable[[Spec], tuple[Case, Record]]


def of_kind(kind: str, **wanted: str) -> pytest.MarkDecorator:
    """Parametrize over the cases of a kind, and of some role, precision or model."""
    fit = [one for one in SPECS if one.kind == kind and all(getattr(one, key) == wanted[key] for key in wanted)]
    return pytest.mark.parametrize("spec", [pytest.param(spec, id=spec.name) for spec in fit])


@pytest.fixture(scope="module")
def played(cases: Any, play: Callable[..., dict[str, list[Record]]]) -> Played:
    """Return a function that finds what was played on the GPU: a case and its record."""
    written = {spec.name: write(cases, spec) for spec in SPECS}
    records: dict[str, list[Record]] = {}

    def find(spec: Spec) -> tuple[Case, Record]:
        if not records:
            records.update(play(1, list(written.values()), "cuda"))
        return written[spec.name], records[spec.name][0]

    return find


def write(cases: Any, spec: Spec) -> Case:
    """Write a case down."""
    learns = spec.kind == "learning"
    config = cases.config(
        stage=spec.stage,
        policy=spec.model,
        lr=1e-3 if learns else SMALL_LR,
        dtype=spec.dtype,
        offload=spec.offload,
        algorithm=spec.algorithm,
        num_gpus=1,
    )
    packing = Packing(max_tokens=spec.row_tokens)
    case: Case = cases.case(spec.name, spec.role, config, num_ranks=1, num_updates=4 if learns else 3, packing=packing)
    if learns:
        ((rows, weights),) = case["updates"][POISONED]
        case["updates"][POISONED] = [(rows, [torch.full_like(weights_K, torch.nan) for weights_K in weights])]
        case |= {"resume_after": POISONED + 1, "naps": True}
    return case


def distance(expected: Tensor, actual: Tensor) -> float:
    """Return the norm of the difference relative to the expected norm."""
    return float((actual - expected).norm() / expected.norm())


def whole(named: dict[str, Tensor]) -> Tensor:
    """Lay all tensors out in one vector."""
    return torch.cat([tensor.flatten() for tensor in named.values()])


def assert_same_gradient(expected: dict[str, Tensor], actual: dict[str, Tensor]) -> float:
    """Compare the gradients of all parameters; return the largest distance."""
    assert expected.keys() == actual.keys()
    noise = FLOAT_NOISE * float(whole(expected).norm())
    distances = [0.0]
    for name, gradient in expected.items():
        if float(gradient.norm()) < noise:  # 0, but for the order of sums
            assert float(actual[name].norm()) < noise, name
        else:
            distances.append(distance(gradient, actual[name]))
            assert distances[-1] <= GRADIENT_BOUND, name
    return max(distances)


def local_gradients(cases: Any, case: Case) -> Iterator[dict[str, Tensor]]:
    """Yield the gradients of the local backend on the CPU, in float32, of each update of the first weights."""
    model = cases.local(case)
    for shards in case["updates"]:
        model.backward([rows for rows, _ in shards])
        yield {name: p.grad.clone() for name, p in model.model.named_parameters()}
        model.optimizer.adamw.zero_grad()


@of_kind("gradient", dtype="float32")
def test_gradients_equal_those_of_the_cpu(
    cases: Any, played: Played, record_property: Callable[[str, object], None], spec: Spec
) -> None:
    """Any stage gives the local backend's gradients, each within 2e-5 of its norm."""
    case, record = played(spec)
    pairs = list(zip(local_gradients(cases, case), record["gradients"], strict=True))
    record_property("largest_difference", max(assert_same_gradient(one, other) for one, other in pairs))


@pytest.mark.parametrize("role", ["policy", "critic"])
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_rows_never_change_the_gradient(played: Played, stage: int, role: str) -> None:
    """The rollouts of an update, in few long rows or in many short ones, add up to the same gradient."""
    specs = [Spec(kind="gradient", role=role, stage=stage, row_tokens=size) for size in ROW_TOKENS]
    (short_case, short), (long_case, long) = map(played, specs)
    assert len(long_case["updates"][0][0][0]) < len(short_case["updates"][0][0][0]), "as many rows"
    for expected, actual in zip(short["gradients"], long["gradients"], strict=True):
        assert_same_gradient(expected, actual)


@of_kind("gradient", dtype="bfloat16")
def test_bfloat16_gradients_are_added_up_in_float32(cases: Any, played: Played, spec: Spec) -> None:
    """The sum has the bits of float32, and is as far from the CPU's as rounding in the model makes it."""
    case, record = played(spec)
    for expected, actual in zip(local_gradients(cases, case), record["gradients"], strict=True):
        assert any(not torch.equal(gradient, gradient.bfloat16().float()) for gradient in actual.values())
        assert distance(whole(expected), whole({name: actual[name] for name in expected})) <= BFLOAT16_BOUND


@of_kind("learning", dtype="float32")
def test_updates_with_naps_move_the_weights_as_on_the_cpu(cases: Any, played: Played, spec: Spec) -> None:
    """Three updates, with naps after each: losses and norms agree, and the weights' change within 1e-3 of its norm."""
    case, record = played(spec)
    model = cases.local(case)
    before = {name: p.detach().clone() for name, p in model.model.named_parameters()}
    for index, shards in enumerate(case["updates"]):
        if index == POISONED:
            continue
        expected = reduce_metrics(model.update([rows for rows, _ in shards]))
        actual = reduce_metrics(record["metrics"][index])
        del expected["memory/peak_bytes"], actual["memory/peak_bytes"]
        assert expected == pytest.approx(actual, rel=1e-3, abs=1e-5)
    expected_moves = {name: p.detach() - before[name] for name, p in model.model.named_parameters()}
    moves = {name: record["after"][-1]["weights"][name] - before[name] for name in before}
    for name, move in expected_moves.items():
        assert distance(move, moves[name]) <= WEIGHT_BOUND, name
    assert distance(whole(expected_moves), whole(moves)) <= UPDATE_BOUND


@of_kind("learning")
def test_update_that_is_not_finite_leaves_weights_and_state(played: Played, spec: Spec) -> None:
    """Not one bit of weights, moments or counts changes."""
    _, record = played(spec)
    assert_same(record["after"][POISONED - 1], record["after"][POISONED])
    metrics = reduce_metrics(record["metrics"][POISONED])
    assert (0, 1) == (metrics[f"{spec.role}/updates"], metrics[f"{spec.role}/skipped_updates"])


@of_kind("learning")
def test_resume_is_bit_for_bit(played: Played, spec: Spec) -> None:
    """A model loaded from a checkpoint, which never naps, goes on as the one that wrote it, which did."""
    _, record = played(spec)
    assert_same(record["after"][-1], record["resumed"])


@of_kind("learning")
def test_checkpoint_verifies(played: Played, spec: Spec) -> None:
    """`orz ckpt verify` finds nothing wrong with the model and the state that were written from a GPU."""
    _, record = played(spec)
    paths = [record["checkpoint"] / spec.role, *sorted((record["checkpoint"] / "state").iterdir())]
    assert len(paths) > 1
    for path in paths:
        ended = subprocess.run([str(ORZ), "ckpt", "verify", str(path)], capture_output=True, text=True, check=False)
        assert 0 == ended.returncode, ended.stdout + ended.stderr


@of_kind("learning", model="wide")
def test_a_model_that_is_away_holds_no_memory(
    played: Played, record_property: Callable[[str, object], None], spec: Spec
) -> None:
    """After each of four naps the same: what a model holds between updates is freed for the others."""
    _, record = played(spec)
    start, *naps = record["naps"]
    assert len(naps) == len(record["after"])
    last = record["after"][-1]
    state = [*last["weights"].values(), *last["masters"], *(x for one in last["moments"] for x in one.values())]
    allowed = ASLEEP * sum(tensor.nbytes for tensor in state)
    if spec.offload == "optimizer" and spec.stage in {1, 2}:
        allowed += DEEPSPEEDS_OWN * max(tensor.nbytes for tensor in last["weights"].values())
    held = [nap["asleep"] - start["before"] for nap in naps]
    record_property("bytes_awake", [nap["awake"] - start["before"] for nap in naps])
    record_property("bytes_asleep", held)
    assert max(held) <= allowed, naps


def assert_same(expected: dict[str, Any], actual: dict[str, Any]) -> None:
    """Two snapshots hold the same bits."""
    for key in ("updates", "weights", "masters", "moments"):
        torch.testing.assert_close(actual[key], expected[key], atol=0, rtol=0)
