"""`orz ckpt collect`: pieces of two disks become one checkpoint, and what is no piece of it stays where it is."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from orz_ckpt.cluster.collect.run import collect
from orz_ckpt.cluster.fleet import Here
from orz_ckpt.describing import describe_folder
from orz_ckpt.inventory import step_folder
from orz_ckpt.manifest import MANIFEST_NAME, load
from orz_ckpt.storage import stage
from orz_ckpt.unfinished import COLLECT_DIR
from orz_ckpt.verify import verify
from orz_cli.findings import Status

pytestmark = pytest.mark.component


def digests(*folders: object) -> dict[str, str]:
    found = [path for folder in folders for path in Path(str(folder)).rglob("*") if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def errors(done) -> list[str]:
    return [entry.code for entry in done.findings if entry.severity == "error"]


def test_a_whole_run_keeps_its_manifests(run: Path, tmp_path: Path) -> None:
    """All of it arrives byte for byte; the source is as it was; a second time nothing is copied."""
    before = digests(run)
    done = collect(Here(), [str(run)], tmp_path / "out")
    assert (Status.OK, [True] * 3) == (done.status(), [one.committed for one in done.gathered])
    theirs = {name.removeprefix(str(run)): digest for name, digest in before.items()}
    ours = {name.removeprefix(str(tmp_path / "out")): digest for name, digest in digests(tmp_path / "out").items()}
    assert theirs == ours
    assert before == digests(run)
    assert 0 == collect(Here(), [str(run)], tmp_path / "out").copied_bytes
    assert Status.OK == verify(tmp_path / "out", require_manifest=True).status()


def test_a_step_folder_of_another_name(run: Path, tmp_path: Path) -> None:
    """A copy of a step is that step whatever it is called: state and manifest come with the weights."""
    exp = Path(shutil.copytree(step_folder(run, 20), tmp_path / "exp"))
    shutil.copytree(exp, run / "best")
    done = collect(Here(), [str(exp)], tmp_path / "out")
    assert (Status.OK, [("", 20, True)]) == (
        done.status(),
        [(one.rel, one.step, one.committed) for one in done.gathered],
    )
    ours = {name.removeprefix(str(tmp_path / "out")): digest for name, digest in digests(tmp_path / "out").items()}
    assert {name.removeprefix(str(exp)): digest for name, digest in digests(exp).items()} == ours
    assert Status.OK == verify(tmp_path / "out", require_manifest=True).status()

    collect(Here(), [str(run)], tmp_path / "all")
    assert Status.OK == verify(tmp_path / "all" / "best", require_manifest=True).status()


def test_two_halves_become_one(halves: list[str], tmp_path: Path, whole: Callable[[Path], bool]) -> None:
    """Neither is whole, both together are, under one manifest with both nodes' records beside it."""
    before = digests(*halves)
    alone = collect(Here(), halves[:1], tmp_path / "alone")
    assert (Status.FAILED, {"pieces_incomplete"}) == (alone.status(), set(errors(alone)))
    assert not (step_folder(tmp_path / "alone", 50) / MANIFEST_NAME).exists()

    done = collect(Here(), halves, tmp_path / "out")
    assert (Status.OK, [True]) == (done.status(), [one.committed for one in done.gathered])
    assert whole(tmp_path / "out")
    assert {"manifest-n1.json", "manifest-n2.json"} == {
        path.name for path in (step_folder(tmp_path / "out", 50) / ".orz").iterdir()
    }
    assert before == digests(*halves)
    assert not (tmp_path / "out" / COLLECT_DIR).exists()


def test_what_the_first_lacked_can_come_later(halves: list[str], tmp_path: Path, whole: Callable[[Path], bool]) -> None:
    """A collection that was incomplete is completed by the next, and committed then."""
    collect(Here(), halves[:1], tmp_path / "out")
    done = collect(Here(), halves, tmp_path / "out")
    assert Status.OK == done.status()
    assert whole(tmp_path / "out")


def test_a_dry_run_writes_nothing(halves: list[str], tmp_path: Path) -> None:
    """It says what would come from where."""
    done = collect(Here(), halves, tmp_path / "out", dry_run=True)
    assert 7 == len(done.gathered[0].to_copy)
    assert not (tmp_path / "out").exists()


def test_equal_copies_are_fine(tmp_path: Path) -> None:
    """The same bytes on two disks are one file."""
    runs = []
    for number in (1, 2):
        folder = tmp_path / f"d{number}" / "iter1"
        folder.mkdir(parents=True)
        save_file({"w": np.ones(10, "<f4")}, folder / "model.safetensors")
        runs.append(str(folder.parent))
    done = collect(Here(), runs, tmp_path / "out")
    assert (Status.OK, 1) == (done.status(), len(done.gathered[0].moves))
    assert (tmp_path / "out" / "iter1" / "model.safetensors").is_file()


def test_home_of_a_run_may_be_the_destination(halves: list[str], tmp_path: Path) -> None:
    """On the head lie a stub with the driver's JSON and what the nodes recorded; the weights join them there."""
    near = tmp_path / "near" / "run"
    (step_folder(near, 50) / ".orz").mkdir(parents=True)
    (step_folder(near, 50) / "evaluation.json").write_text("{}")
    for part, run in enumerate(halves, start=1):
        shutil.copy(step_folder(Path(run), 50) / ".orz" / f"manifest-n{part}.json", step_folder(near, 50) / ".orz")
    lost = verify(near)
    assert 2 == len([entry for entry in lost.findings if entry.code == "weights_elsewhere"])
    done = collect(Here(), [str(near), *halves], near)
    assert Status.OK == done.status(), done.findings
    manifest = load(step_folder(near, 50) / MANIFEST_NAME)
    assert ["evaluation.json"] == [name for name in manifest.files if not name.startswith("policy/")]
    assert Status.OK == verify(near, require_manifest=True).status()


def test_a_save_whose_weights_went_elsewhere_in_flight(tmp_path: Path) -> None:
    """The driver committed its own JSON; the rank wrote into a temporary folder of the same save on another disk."""
    near, far = tmp_path / "near", tmp_path / "far"
    with stage(step_folder(near, 50), attempt="one") as staged:
        (staged.path / "policy").mkdir()
        (staged.path / "policy" / "note.json").write_text("{}")
        staged.commit(step=50, roles={"policy": "policy"}, writer="t 1", node="n1")
    lost = far / "checkpoints" / "step_000050.tmp-one" / "policy"
    lost.mkdir(parents=True)
    save_file({"w": np.ones(5, "<f4")}, lost / "model.safetensors")
    done = collect(Here(), [str(near), str(far)], tmp_path / "out")
    assert Status.OK == done.status(), done.findings
    manifest = load(step_folder(tmp_path / "out", 50) / MANIFEST_NAME)
    assert {"policy/note.json", "policy/model.safetensors"} == set(manifest.files)


def test_a_step_that_nobody_recorded(run: Path, tmp_path: Path) -> None:
    """It comes, and is not committed; what is said to help does: a copy of a model can have a manifest."""
    (step_folder(run, 30) / MANIFEST_NAME).unlink()
    shutil.rmtree(step_folder(run, 30) / ".orz")
    done = collect(Here(), [str(run)], tmp_path / "out")

    there = step_folder(tmp_path / "out", 30)
    (entry,) = [entry for entry in done.findings if entry.code == "uncommitted" and entry.path == str(there)]
    assert Status.FAILED == done.status()
    assert "describe the copy: orz ckpt manifest COPY" in entry.remedy
    shutil.copytree(there / "policy", tmp_path / "copy")
    assert Status.OK == describe_folder(tmp_path / "copy").status()


def test_a_file_that_no_record_names(run: Path, tmp_path: Path) -> None:
    """It was put there after the save: it stays where it is, and is told; the checkpoint is whole without it."""
    note = step_folder(run, 30) / "policy" / "note.txt"
    note.write_text("mine")
    done = collect(Here(), [str(run)], tmp_path / "out")
    (found,) = [entry for entry in done.findings if entry.code == "collect_left"]
    assert f"1 file that no record of the save names: {note} on {Here().nodes[0].name}" == found.message
    assert ("checkpoints/step_000030", Status.OK) == (found.path, done.status())
    assert not (step_folder(tmp_path / "out", 30) / "policy" / "note.txt").exists()
    assert Status.OK == verify(tmp_path / "out").status()


def test_an_unfinished_save_stays_where_it_is(run: Path, tmp_path: Path) -> None:
    """A temporary folder that belongs to nothing finished is told and not brought."""
    shutil.copytree(step_folder(run, 30), run / "checkpoints" / "step_000040.tmp-x")
    (run / "checkpoints" / "step_000040.tmp-x" / MANIFEST_NAME).unlink()
    done = collect(Here(), [str(run)], tmp_path / "out")
    assert (Status.OK, {"in_flight", "collected"}) == (done.status(), {entry.code for entry in done.findings})
    assert not list((tmp_path / "out" / "checkpoints").glob("*40*"))
