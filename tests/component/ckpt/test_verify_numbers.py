"""Statistics of tensors, weights that hold one value alone, outliers, and the drift from step to step of a run."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from orz_ckpt.checks.content import Read
from orz_ckpt.examine.drift import Drift
from orz_ckpt.examine.shards import check_zeros
from orz_ckpt.findings import Level, Report
from orz_ckpt.inventory import step_folder
from orz_ckpt.storage import stage
from orz_ckpt.tensors.source import Source, SourceTensor
from orz_ckpt.verify import verify
from orz_cli.findings import Severity, Status
from orz_cli.main import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    Tensors = dict[str, NDArray[Any]]

pytestmark = pytest.mark.component

NORM = "model.norm.weight"
BIAS = "model.layers.1.self_attn.q_proj.bias"
MATRIX = "model.layers.0.mlp.up_proj.weight"


def codes(report: Report) -> set[str]:
    return {entry.code for entry in report.findings if entry.severity is not Severity.INFO}


def the(report: Report, code: str) -> Any:
    (found,) = (entry for entry in report.findings if entry.code == code)
    return found


@pytest.fixture
def change(model: Path) -> Callable[[Callable[[Tensors], object]], Path]:
    """The function that changes weights of the model in place."""

    def apply(edit: Callable[[Tensors], object]) -> Path:
        for file in model.glob("*.safetensors"):
            tensors = load_file(file)
            edit(tensors)
            save_file(tensors, file)
        return model

    return apply


def setting(name: str, value: object) -> Callable[[Tensors], object]:
    """Return what sets all numbers of one tensor, where a file has it."""
    return lambda tensors: tensors[name].fill(value) if name in tensors else None


def test_a_matrix_of_one_value(change: Callable[..., Path]) -> None:
    """A fill that nothing replaced is a warning that names tensor and value."""
    report = verify(change(setting(MATRIX, 0.02)))
    found = the(report, "constant")
    assert (Status.OK, Severity.WARN, MATRIX) == (report.status(), found.severity, found.tensor)
    assert f"'{MATRIX}' (0.02)" in found.message
    assert Status.FAILED is report.status(Severity.WARN)


def test_a_norm_of_zeros(change: Callable[..., Path]) -> None:
    """Zeros in a norm weight let nothing through."""
    found = the(verify(change(setting(NORM, 0))), "constant")
    assert (NORM, True) == (found.tensor, "(0)" in found.message)


@pytest.mark.parametrize(("name", "value"), [(NORM, 1), (BIAS, 0), (BIAS, 3)])
def test_as_fresh_layers_are(change: Callable[..., Path], name: str, value: float) -> None:
    """A norm weight of ones and a bias of zeros, or of anything, are right."""
    assert set() == codes(verify(change(setting(name, value))))


def test_a_matrix_of_zeros_is_told_once(change: Callable[..., Path]) -> None:
    """All zeros is a finding of its own."""
    assert {"all_zero"} == codes(verify(change(setting(MATRIX, 0))))


def test_shards_of_one_value(tmp_path: Path) -> None:
    """Files of FSDP's ranks: a matrix of one value and a norm of zeros are named together, of the whole checkpoint."""
    weights = {"w": torch.full((2, 8), 0.5), "v": torch.arange(16.0).reshape(2, 8), NORM: torch.zeros(8)}
    for rank in range(2):
        torch.save(weights, tmp_path / f"model_world_size_2_rank_{rank}.pt")
    found = the(verify(tmp_path), "constant")
    assert (str(tmp_path), "w") == (found.path, found.tensor)
    assert f"2 of 3 weights hold one value alone: 'w' (0.5), '{NORM}' (0)" == found.message


@pytest.mark.parametrize(("second", "expected"), [(0x3F00, {"constant"}), (0x3E80, set()), (None, set())])
def test_parts_of_one_value(tmp_path: Path, second: int | None, expected: set[str]) -> None:
    """Parts with the same value make a constant matrix; with another in one file, or two in one, there is none."""
    tensor = SourceTensor(name="w", shape=(2, 8), grid=(2, 8), dtype="BF16", pieces=())
    source = Source(format="fsdp", path=tmp_path, tensors={"w": tensor})
    reads = [Read((), largest={"w": 0x3F00}, only={"w": only}) for only in (0x3F00, second)]
    assert expected == {entry.code for entry in check_zeros(source, reads)}


def flip(tensors: Tensors) -> None:
    """Flip the top bit of the exponent of 0.5: the exponent 126 becomes 254, which is 2^127."""
    if MATRIX in tensors:
        tensors[MATRIX][1, 2] = 0.5
        tensors[MATRIX].view(np.uint32)[1, 2] ^= 1 << 30


def test_an_outlier(change: Callable[..., Path]) -> None:
    """A flipped bit of an exponent is found at the deep level, which alone takes statistics."""
    path = change(flip)
    assert set() == codes(verify(path))
    report = verify(path, level=Level.DEEP)
    found = the(report, "outlier")
    assert ({"outlier"}, MATRIX) == (codes(report), found.tensor)
    assert f"{2.0**127:.6g} lies far away from the other 383 numbers: more than 1e+" in found.message


@pytest.mark.parametrize(("others", "expected"), [(0.25, "all others are equal"), (None, "more than 1e+29 times")])
def test_what_an_outlier_is_far_away_from(others: float | None, expected: str, change: Callable[..., Path]) -> None:
    """1e30 among normal numbers, whose spread is nothing beside it, is not said to lie among equal ones."""

    def edit(tensors: Tensors) -> None:
        if MATRIX in tensors:
            if others is not None:
                tensors[MATRIX][:] = others
            tensors[MATRIX][1, 2] = 1e30

    found = the(verify(change(edit), level=Level.DEEP), "outlier")
    assert found.message.partition("numbers: ")[2].startswith(expected)


@pytest.mark.parametrize(("far", "expected"), [(990.0, set()), (1010.0, {"outlier"})])
def test_the_bound_of_outliers(change: Callable[..., Path], far: float, expected: set[str]) -> None:
    """The other 383 have mean 0 and deviation sqrt(382 / 383): 990 lies below the bound of 1,000, 1,010 above it."""

    def edit(tensors: Tensors) -> None:
        if MATRIX in tensors:
            numbers = tensors[MATRIX].reshape(-1)
            numbers[:] = [(-1.0) ** number for number in range(len(numbers))]
            numbers[0], numbers[1] = far, 0.0

    assert expected == codes(verify(change(edit), level=Level.DEEP))


def test_how_far_is_far(tmp_path: Path) -> None:
    """In n times as many steps n times as far is expected, in a quarter of them half as far: 0.125 of 0.25."""

    def drift(steps: int, moved: float) -> Drift:
        return Drift(before=tmp_path, after=tmp_path, steps=steps, relative=moved)

    earlier = [drift(10, 0.25), drift(10, 0.125)]
    assert [2.0, 0.5, 4.0] == [
        drift(steps, moved).times(earlier) for steps, moved in ((10, 0.5), (40, 0.5), (160, 16.0))
    ]
    assert 4.0 == pytest.approx(drift(40, 0.5).times([drift(160, 0.25)]))


def test_statistics_as_json(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of each tensor of each file at the deep level, and of none below it."""
    assert 0 == main(["ckpt", "verify", str(model), "--json"])
    assert [] == json.loads(capsys.readouterr().out)["statistics"]
    assert 0 == main(["ckpt", "verify", str(model), "--level", "deep", "--json"])
    entries = {entry["tensor"]: entry for entry in json.loads(capsys.readouterr().out)["statistics"]}
    arrays = {name: (file, array) for file in model.glob("*.safetensors") for name, array in load_file(file).items()}
    assert arrays.keys() == entries.keys()
    for name, (file, array) in arrays.items():
        entry, numbers = entries[name], [float(number) for number in array.reshape(-1)]
        mean = math.fsum(numbers) / len(numbers)
        assert (str(file), "F32", len(numbers)) == (entry["path"], entry["dtype"], entry["numel"])
        assert mean == pytest.approx(entry["mean"], rel=1e-12)
        spread = math.sqrt(math.fsum((number - mean) ** 2 for number in numbers) / len(numbers))
        assert spread == pytest.approx(entry["std"], rel=1e-12)
        assert math.sqrt(math.fsum(number * number for number in numbers)) == pytest.approx(entry["norm"], rel=1e-12)
        assert max(map(abs, numbers)) == entry["largest"]


def commit(run: Path, step: int, model: Path, moved: float) -> None:
    """Commit a step whose weights are those of `model`, each multiplied by 1 + `moved`."""
    with stage(step_folder(run, step)) as staged:
        policy = staged.path / "policy"
        policy.mkdir()
        for file in model.iterdir():
            (policy / file.name).write_bytes(file.read_bytes())
        for file in policy.glob("*.safetensors"):
            save_file({name: array * np.float32(1 + moved) for name, array in load_file(file).items()}, file)
        staged.commit(step=step, roles={"policy": "policy"}, writer="orz-train 0.1.0")


def test_a_step_that_changed_nothing(run: Path) -> None:
    """The same weights at each step: the newest one's is an error, an older one's a warning; only deep looks."""
    assert set() == codes(verify(run))
    report = verify(run, level=Level.DEEP)
    found = [entry for entry in report.findings if entry.code == "step_unchanged"]
    steps = run / "checkpoints"
    assert Status.FAILED is report.status()
    assert [(str(steps / "step_000020"), Severity.WARN), (str(steps / "step_000030"), Severity.ERROR)] == [
        (entry.path, entry.severity) for entry in found
    ]
    assert "0 of 27 tensors differ from step_000020, the step before" == found[-1].message


def test_steady_drift(tmp_path: Path, model: Path) -> None:
    """Weights that move on by as much as before, over unequal distances, are told as a note; of what norm, too."""
    for step, moved in ((10, 0.0), (20, 1e-3), (30, 2e-3), (130, 12e-3), (131, 12.1e-3)):
        commit(tmp_path / "run", step, model, moved)
    report = verify(tmp_path / "run", level=Level.DEEP)
    found = the(report, "drift")
    assert (Status.OK, set(), Severity.INFO) == (report.status(), codes(report), found.severity)
    assert "step_000010 -> step_000020: 1.00e-03, step_000020 -> step_000030: 9.99e-04" in found.message


def test_drift_that_jumps(tmp_path: Path, model: Path) -> None:
    """The third stretch goes a hundred times as far: a warning that names the last step before it."""
    for step, moved in ((10, 0.0), (20, 1e-3), (30, 2e-3), (40, 0.102)):
        commit(tmp_path / "run", step, model, moved)
    report = verify(tmp_path / "run", level=Level.DEEP)
    found = the(report, "drift_jumps")
    assert (Status.OK, {"drift_jumps"}) == (report.status(), codes(report))
    assert str(tmp_path / "run" / "checkpoints" / "step_000040") == found.path
    assert "from step_000030 on the weights moved by 9.98e-02 of their norm: 100 times as far" in found.message


def test_steps_that_cannot_be_compared(tmp_path: Path, model: Path) -> None:
    """A step of another model leaves it open: exit 3, never a pass."""
    commit(tmp_path / "run", 10, model, 0.0)
    other = tmp_path / "other"
    other.mkdir()
    save_file({"w": np.ones(3, np.float32)}, other / "model.safetensors")
    commit(tmp_path / "run", 20, other, 0.0)
    report = verify(tmp_path / "run", level=Level.DEEP)
    assert (Status.INCONCLUSIVE, True) == (report.status(), "not_compared" in codes(report))
    assert "step_000010, the step before" in the(report, "not_compared").message
