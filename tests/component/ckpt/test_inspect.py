"""`orz ckpt inspect`: what a manifest promises and is not there, and runs however they are spelled."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from orz_ckpt.errors import SeveralError
from orz_ckpt.inspection import Inspection, inspect
from orz_ckpt.inventory import step_folder
from orz_ckpt.manifest import MANIFEST_NAME
from orz_ckpt.sources import open_source
from orz_ckpt.storage import stage
from orz_cli.findings import Status
from orz_cli.main import main

pytestmark = pytest.mark.component


def found(inspection: Inspection) -> list[tuple[str, str]]:
    return [(entry.code, Path(entry.path).name) for entry in inspection.findings]


@pytest.mark.parametrize("spelled", ["run", "run/checkpoints/step_000030"])
def test_a_model_that_is_not_there(run: Path, spelled: str) -> None:
    """The manifest knows of it: what is missing is named, and the other model is no answer for both."""
    (step_folder(run, 30) / "critic" / "model.safetensors").unlink()
    looked = inspect(run.parent / spelled)

    assert (Status.FAILED, [("file_missing", "model.safetensors")]) == (looked.status(), found(looked))
    assert ({"policy": "policy", "critic": "critic"}, ["policy"]) == (
        looked.to_json()["roles"],
        [model.role for model in looked.models],
    )


def test_a_shard_that_is_not_there(step: Path) -> None:
    """The manifest and the index each name it; it is told once."""
    (step / "policy" / "model-00002-of-00002.safetensors").unlink()
    assert [("file_missing", "model-00002-of-00002.safetensors")] == found(inspect(step))


def test_a_step_whose_only_model_is_not_there(run: Path) -> None:
    """Nothing is left to show; what lacks is said all the same."""
    with stage(step_folder(run, 40)) as staged:
        shutil.copytree(step_folder(run, 10) / "critic", staged.path / "critic")
        staged.commit(step=40, roles={"critic": "critic"}, writer="t 1")
    assert Status.OK == inspect(step_folder(run, 40)).status()
    (step_folder(run, 40) / "critic" / "model.safetensors").unlink()
    looked = inspect(run)

    assert (Status.FAILED, ()) == (looked.status(), looked.models)
    assert [("file_missing", "model.safetensors")] == found(looked)


def test_a_role_that_was_saved_without_weights(run: Path) -> None:
    """All files of the save are there, and none is one of weights."""
    with stage(step_folder(run, 40)) as staged:
        (staged.path / "policy").mkdir()
        (staged.path / "policy" / "config.json").write_text("{}")
        staged.commit(step=40, roles={"policy": "policy"}, writer="t 1")
    looked = inspect(run)

    assert (Status.FAILED, [("no_weights", "policy")]) == (looked.status(), found(looked))
    assert f"orz ckpt locate {run} --ray" in looked.findings[0].remedy


def test_a_file_of_another_size(step: Path) -> None:
    """As good as missing; what was put beside the save is not what is asked for."""
    (step / "notes.txt").write_text("mine")
    assert Status.OK == inspect(step).status()
    (step / "state" / "rank_0.bin").write_bytes(b"x")
    assert [("size_differs", "rank_0.bin")] == found(inspect(step))


@pytest.mark.parametrize(
    ("edit", "status", "code"),
    [({"v": 2}, Status.INCONCLUSIVE, "manifest_newer"), ({"step": 51}, Status.FAILED, "manifest_torn")],
    ids=["newer", "altered"],
)
def test_a_manifest_that_cannot_be_used(step: Path, edit: dict[str, int], status: Status, code: str) -> None:
    """The models are shown, and that nothing says whether they are all."""
    manifest = step / MANIFEST_NAME
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), **edit}))
    looked = inspect(step)

    assert (status, [code]) == (looked.status(), [code for code, _ in found(looked)])
    assert ["critic", "policy"] == [model.role for model in looked.models]
    of_run = inspect(step.parent.parent)
    assert (status, [code], ()) == (of_run.status(), [code for code, _ in found(of_run)], of_run.models)


@pytest.mark.parametrize(
    ("folder", "spelled"),
    [
        (".", "run"),
        (".", "run/checkpoints"),
        ("run/checkpoints", "."),
        ("run/checkpoints", ".."),
        ("run", "checkpoints"),
        ("run/checkpoints/step_000030", ".."),
        ("run/checkpoints", "step_000030/.."),
    ],
)
def test_a_run_however_it_is_spelled(run: Path, monkeypatch: pytest.MonkeyPatch, folder: str, spelled: str) -> None:
    """Its steps are found from wherever one stands."""
    monkeypatch.chdir(run.parent / folder)
    looked = inspect(Path(spelled))

    assert ("run", [10, 20, 30]) == (looked.kind, [entry.step for entry in looked.checkpoints])
    assert ["critic", "policy"] == [model.role for model in looked.models]
    with pytest.raises(SeveralError) as caught:
        open_source(Path(spelled))
    assert "step_000030" in caught.value.remedy


def test_files_of_weights_are_counted(step: Path) -> None:
    """Neither configuration nor tokenizer nor index holds a tensor: two shards of a policy, one file of a critic."""
    assert {"policy": 2, "critic": 1} == {model.role: len(model.weight_files) for model in inspect(step).models}


def test_a_model_and_the_steps_to_it(model: Path) -> None:
    """What transformers' Trainer leaves behind: the model is shown, and each step below it, by number."""
    for step in (5, 10):
        shutil.copytree(model, model / f"checkpoint-{step}", ignore=lambda *_: ["checkpoint-5", "checkpoint-10"])
    (model / "logs").mkdir()
    looked = inspect(model)

    assert ("hf", Status.OK) == (looked.kind, looked.status())
    assert [("", model), ("checkpoint-5", model / "checkpoint-5"), ("checkpoint-10", model / "checkpoint-10")] == [
        (entry.role, entry.source.path) for entry in looked.models
    ]
    assert {} == looked.roles


def test_steps_in_a_folder_of_their_own(model: Path, tmp_path: Path) -> None:
    """Of a project of accelerate all steps are shown, beside a model or not."""
    for number in (0, 1):
        shutil.copytree(model, tmp_path / "project" / "checkpoints" / f"checkpoint_{number}")
    names = ["checkpoints/checkpoint_0", "checkpoints/checkpoint_1"]
    assert names == [found.role for found in inspect(tmp_path / "project").models]
    with pytest.raises(SeveralError) as raised:
        open_source(tmp_path / "project")
    assert f"give one of its models: {tmp_path / 'project' / names[1]}" == raised.value.remedy
    for file in model.iterdir():
        shutil.copy(file, tmp_path / "project")

    assert ["", *names] == [found.role for found in inspect(tmp_path / "project").models]


def test_a_save_that_goes_on_is_no_step(model: Path, tmp_path: Path) -> None:
    """A run whose first save is going on has saved nothing yet."""
    shutil.copytree(model, tmp_path / "run" / "checkpoints" / "step_000010.tmp-x" / "policy")

    assert ((), "run") == (inspect(tmp_path / "run").models, inspect(tmp_path / "run").kind)


def test_roles_without_a_manifest(model: Path, tmp_path: Path) -> None:
    """A step of another trainer has the roles that its folders are named by."""
    for role in ("actor", "critic"):
        shutil.copytree(model, tmp_path / "global_step_7" / role)
    looked = inspect(tmp_path / "global_step_7")

    assert ("folder", {"actor": "actor", "critic": "critic"}) == (looked.kind, looked.to_json()["roles"])
    assert ["actor", "critic"] == [entry.role for entry in looked.models]


def test_a_long_reason_is_below_the_table(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is told whole, and the table stays as narrow as its numbers."""
    manifest = step_folder(run, 20) / MANIFEST_NAME
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "step": 21}))
    assert 0 == main(["ckpt", "inspect", str(run)])
    lines = capsys.readouterr().out.splitlines()

    (row,) = [line for line in lines if "checkpoints/step_000020" in line and "its manifest cannot be used" in line]
    assert len(row.rstrip()) < 80
    assert any("altered after it was written" in line for line in lines)


def test_steps_in_a_folder_of_another_name(run: Path) -> None:
    """A folder of copied steps is a run of them."""
    copies = (run / "checkpoints").rename(run.parent / "copies")
    assert [10, 20, 30] == [entry.step for entry in inspect(copies).checkpoints]


def test_a_run_without_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Another node may have saved: the command that asks it is named."""
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    assert 0 == main(["ckpt", "inspect", str(tmp_path / "run")])
    assert f"orz ckpt locate {tmp_path}/run --ray" in capsys.readouterr().out.replace("\n", "")
