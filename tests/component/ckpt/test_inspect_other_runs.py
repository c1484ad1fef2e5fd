"""`orz ckpt inspect` of runs of other trainers that save several models in each step: Open-Reasoner-Zero, verl."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from orz_ckpt.errors import SeveralError
from orz_ckpt.inspection import Inspection, inspect
from orz_ckpt.sources import open_source
from orz_cli.findings import Status
from orz_cli.main import main

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.component

FOREIGN = "no manifest: another trainer saved it"


@pytest.fixture
def orz(model: Path, tmp_path: Path) -> Path:
    """A run of Open-Reasoner-Zero, whose names do not sort as its steps do."""
    for step in (5, 10):
        for role in ("policy", "critic"):
            shutil.copytree(model, tmp_path / "orz" / f"iter{step}" / role)
    (tmp_path / "orz" / "iter10_generation_results.json").write_text("{}")
    return tmp_path / "orz"


@pytest.fixture
def verl(model: Path, tmp_path: Path) -> Path:
    """A run of verl that wrote into `checkpoints/`."""
    folder = tmp_path / "project" / "checkpoints"
    for step in (7, 14):
        for role in ("actor", "critic"):
            shutil.copytree(model, folder / f"global_step_{step}" / role)
    (folder / "latest_checkpointed_iteration.txt").write_text("14")
    return tmp_path / "project"


def steps(looked: Inspection) -> list[tuple[int, str, str]]:
    return [(entry.step, str(entry.path.relative_to(looked.path)), entry.state) for entry in looked.checkpoints]


def models(looked: Inspection) -> list[tuple[str, str]]:
    return [(model.role, str(model.source.path.relative_to(looked.path))) for model in looked.models]


def test_steps_and_the_newest_models(orz: Path) -> None:
    """All steps by number, and what lies in the newest; that nothing was committed is no fault of theirs."""
    looked = inspect(orz)

    assert ("run", Status.OK) == (looked.kind, looked.status())
    assert [(5, "iter5", "no manifest"), (10, "iter10", "no manifest")] == steps(looked)
    assert [("critic", "iter10/critic"), ("policy", "iter10/policy")] == models(looked)
    document = looked.to_json()
    assert {"policy": "policy", "critic": "critic"} == document["roles"]
    assert [(False, FOREIGN)] * 2 == [(entry["committed"], entry["problem"]) for entry in document["checkpoints"]]


@pytest.mark.parametrize("spelled", [".", "checkpoints", "checkpoints/global_step_7/.."])
def test_a_folder_of_checkpoints(spelled: str, verl: Path) -> None:
    """The run's folder, and the one that its steps lie in, are the same run, as they are of `orz train`."""
    looked = inspect(verl / spelled)

    assert [7, 14] == [entry.step for entry in looked.checkpoints]
    assert [verl / "checkpoints" / "global_step_14" / role for role in ("actor", "critic")] == [
        model.source.path.resolve() for model in looked.models
    ]


def test_a_newest_step_without_weights(orz: Path) -> None:
    """It is listed as such, and the models are those of the step before; a save that goes on is none."""
    (orz / "iter20").mkdir()
    shutil.copytree(orz / "iter10", orz / "step_000001.tmp-x")
    looked = inspect(orz)

    assert [(20, "iter20", "no weights")] == steps(looked)[2:]
    assert ["iter10/critic", "iter10/policy"] == [name for _, name in models(looked)]


def test_a_step_with_a_manifest(orz: Path) -> None:
    """`orz ckpt manifest` gave it one, and what lacks of it is told."""
    assert 0 == main(["ckpt", "manifest", str(orz / "iter10")])
    assert [(5, "iter5", "no manifest"), (10, "iter10", "committed")] == steps(inspect(orz))
    next((orz / "iter10" / "critic").glob("*.safetensors")).unlink()

    assert (Status.FAILED, "file_missing") == (inspect(orz).status(), inspect(orz).findings[0].code)


def test_a_model_beside_the_steps(orz: Path, model: Path) -> None:
    """It is shown behind those of the newest step, and hides none of them."""
    shutil.copytree(model, orz / "final")

    assert [("critic", "iter10/critic"), ("policy", "iter10/policy"), ("final", "final")] == models(inspect(orz))


def test_runs_in_a_folder(orz: Path, model: Path) -> None:
    """Below the folder given each model of each step is shown, as is one of a step that is a model itself."""
    (orz.parent / "runs").mkdir()
    orz.rename(orz.parent / "runs" / "orz")
    shutil.copytree(model, orz.parent / "runs" / "out" / "checkpoint-5")
    looked = inspect(orz.parent / "runs")

    names = [f"orz/iter{step}/{role}" for step in (5, 10) for role in ("critic", "policy")]
    assert ("folder", (), {}) == (looked.kind, looked.checkpoints, looked.roles)
    assert sorted([*names, "out/checkpoint-5"]) == sorted(name for _, name in models(looked))


def test_commands_of_one_model_still_ask_for_one(orz: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A merge is of one model; what inspect lists is what to give."""
    assert 0 == main(["ckpt", "inspect", str(orz)])
    said = capsys.readouterr().out
    assert all(text in said for text in ("iter5", "iter10/policy", "no manifest"))
    with pytest.raises(SeveralError):
        open_source(orz)
