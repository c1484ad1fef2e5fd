"""What has no weights in it is never a pass, and a single file of weights is judged as its folder would be."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from orz_ckpt.findings import Level, Report
from orz_ckpt.inventory import step_folder
from orz_ckpt.storage import stage
from orz_ckpt.verify import verify
from orz_cli.findings import Severity, Status
from orz_cli.main import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.component

SHARD = "model-00001-of-00002.safetensors"


def codes(report: Report) -> set[str]:
    return {entry.code for entry in report.findings if entry.severity is Severity.ERROR}


def the(report: Report, code: str) -> Any:
    """Return the one finding with a code."""
    (found,) = (entry for entry in report.findings if entry.code == code)
    return found


@pytest.mark.parametrize("level", [Level.QUICK, Level.SAMPLE, Level.FULL])
@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("x.pt", lambda path: torch.save({}, path)),
        ("x.pth", lambda path: torch.save([1, 2], path)),
        ("pytorch_model.bin", lambda path: torch.save({"step": 3}, path)),
        ("model.safetensors", lambda path: save_file({}, path)),
    ],
)
def test_no_tensor(name: str, write: Callable[[Path], object], level: Level, tmp_path: Path) -> None:
    """A sound file without a tensor, alone or as all that a folder holds, fails, and gets no manifest."""
    folder = tmp_path / "model"
    folder.mkdir()
    write(folder / name)

    for path in (folder / name, folder):
        report = verify(path, level=level)
        assert (Status.FAILED, {"no_weights"}, 0) == (report.status(), codes(report), report.tensors)
    assert 1 == main(["ckpt", "manifest", str(folder)])
    assert [name] == [entry.name for entry in folder.iterdir()]


def test_no_tensor_beside_a_configuration(model: Path) -> None:
    """It is one finding, and not one for each tensor that config.json promises."""
    for file in model.glob("model*"):
        file.unlink()
    save_file({}, model / "model.safetensors")

    assert {"no_weights"} == codes(verify(model))
    assert "model.safetensors" in the(verify(model), "no_weights").message


class Runs:
    def __reduce__(self) -> Any:
        return (os.system, ("true",))


def test_no_tensor_in_what_was_allowed(tmp_path: Path) -> None:
    """What is left of a hostile file with its call made inert is no pass either."""
    torch.save({"a": Runs()}, tmp_path / "x.pt")

    assert Status.REFUSED is verify(tmp_path / "x.pt").status()
    report = verify(tmp_path / "x.pt", inert=frozenset({f"{os.system.__module__}.system"}))
    assert (Status.FAILED, {"no_weights"}) == (report.status(), codes(report))


@pytest.mark.parametrize("names", [["config.json", "model.safetensors"], ["README.md"]])
def test_a_step_without_tensors(names: list[str], model: Path, tmp_path: Path) -> None:
    """A role that was committed without weights fails, asked for by itself, too."""
    final = step_folder(tmp_path / "run", 10)
    with stage(final) as staged:
        policy = staged.path / "policy"
        policy.mkdir()
        for name in names:
            (policy / name).write_bytes((model / "config.json").read_bytes())
        if "model.safetensors" in names:
            save_file({}, policy / "model.safetensors")
        staged.commit(step=10, roles={"policy": "policy"}, writer="test 1")

    for path in (final, final / "policy"):
        assert (Status.FAILED, {"no_weights"}) == (verify(path).status(), codes(verify(path)))


def test_states_are_no_models(step: Path) -> None:
    """What a training goes on from has no tensors that anybody knows, and is compared with its manifest."""
    for path in (step / "state", step / "state" / "rank_0.bin"):
        assert Status.OK is verify(path).status()


@pytest.mark.parametrize("part", ["manifest.json", ".orz", "policy/config.json", "policy/tokenizer.json"])
def test_a_part_that_is_none_of_the_weights(part: str, step: Path) -> None:
    """Its manifest covers it, and that says nothing of the weights: exit 3, with the folder to verify."""
    (step / ".orz").mkdir(exist_ok=True)
    report = verify(step / part)

    assert (Status.INCONCLUSIVE, {"beside_weights"}) == (report.status(), codes(report))
    assert f"orz ckpt verify {step}" == the(report, "beside_weights").remedy


def test_a_scheduler_is_none_of_the_weights(model: Path) -> None:
    """Beside a model it is no finding; by itself it says nothing of the weights."""
    torch.save({"last_epoch": 3}, model / "scheduler.pt")

    assert Status.OK is verify(model).status()
    report = verify(model / "scheduler.pt")
    assert (Status.INCONCLUSIVE, {"beside_weights"}) == (report.status(), codes(report))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "weights.pt", "model.safetensors", SHARD])
def test_one_file_of_zeros(name: str, model: Path, tmp_path: Path) -> None:
    """A file of weights that are all zeros fails by itself, as its folder does."""
    arrays = {key: np.zeros_like(array) for key, array in load_file(model / SHARD).items()}
    (tmp_path / "zeros").mkdir()
    file = tmp_path / "zeros" / name
    if file.suffix == ".safetensors":
        save_file(arrays, file)
    else:
        torch.save({key: torch.from_numpy(array) for key, array in arrays.items()}, file)
    report = verify(file)

    assert (Status.FAILED, {"all_zero_model"}) == (report.status(), codes(report))
    assert str(file) == the(report, "all_zero_model").path


@pytest.mark.parametrize("name", ["pytorch_model.bin", "weights.pt", "model.safetensors"])
def test_one_file_of_spread_weights(name: str, tmp_path: Path) -> None:
    """So does one whose weights have no elements."""
    file = tmp_path / name
    if file.suffix == ".safetensors":
        save_file({"w": np.zeros(0, "<f4"), "b": np.ones(2, "<f4")}, file)
    else:
        torch.save({"w": torch.zeros(0), "b": torch.ones(2)}, file)
    report = verify(file)

    assert (Status.FAILED, {"tensor_empty"}) == (report.status(), codes(report))
    assert "w" == the(report, "tensor_empty").tensor


def test_one_file_of_zeros_in_a_step(step: Path) -> None:
    """A manifest says that the zeros are what was written; they are zeros all the same."""
    final = step.with_name("step_000060")
    with stage(final) as staged:
        policy = staged.path / "policy"
        shutil.copytree(step / "critic", policy)
        arrays = load_file(policy / "model.safetensors")
        save_file({key: np.zeros_like(array) for key, array in arrays.items()}, policy / "model.safetensors")
        staged.commit(step=60, roles={"policy": "policy"}, writer="test 1")
    report = verify(final / "policy" / "model.safetensors")

    assert (Status.FAILED, {"all_zero_model"}) == (report.status(), codes(report))


@pytest.mark.parametrize("name", ["model_world_size_2_rank_1.pt", "optimizer.pt", "exp_avg.pt"])
def test_files_that_may_be_zeros(name: str, tmp_path: Path) -> None:
    """A rank's part of the weights may be empty or zeros, and so may an optimizer's state: they are no models."""
    torch.save({"a": torch.zeros(3, 3), "b": torch.zeros(0)}, tmp_path / name)

    assert Status.OK is verify(tmp_path / name).status()


def test_one_file_needs_no_configuration(model: Path) -> None:
    """Of a file that was asked for by itself, nothing is said of the folder around it."""
    (model / "config.json").write_text(json.dumps({"architectures": 3}), encoding="utf-8")

    assert {"no_manifest"} == {entry.code for entry in verify(model / SHARD).findings}
