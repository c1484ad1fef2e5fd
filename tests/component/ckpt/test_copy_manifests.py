"""`orz ckpt copy` where a manifest cannot be used, or is another program's: it says what `verify` says."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest

from orz_ckpt.copy.run import Copied, copy
from orz_ckpt.inventory import step_folder
from orz_ckpt.manifest import MANIFEST_NAME, PRIVATE_DIR
from orz_ckpt.verify import verify
from orz_cli.findings import Status

pytestmark = pytest.mark.component

LATER = {"v": 99, "contents": {"policy/config.json": "0" * 64}}
FOREIGN = {"v": "2", "name": "app", "version": 3}

BROKEN = pytest.mark.parametrize(
    ("edit", "status", "code"),
    [
        (lambda _: "", Status.FAILED, "manifest_torn"),
        (lambda text: text[:300], Status.FAILED, "manifest_torn"),
        (lambda _: json.dumps(LATER), Status.INCONCLUSIVE, "manifest_newer"),
        (lambda _: json.dumps({**LATER, "more": "x" * 100_000}), Status.INCONCLUSIVE, "manifest_newer"),
    ],
    ids=["empty", "cut off", "newer with other keys", "newer and long"],
)


def codes(done: Copied) -> set[str]:
    return {entry.code for entry in done.findings if entry.severity != "info"}


def broken(step: Path, edit: Callable[[str], str]) -> Path:
    """Change the manifest of `step`."""
    manifest = step / MANIFEST_NAME
    manifest.write_text(edit(manifest.read_text()))
    return step


@BROKEN
@pytest.mark.parametrize("store", [False, True], ids=["a disk", "a store"])
def test_of_a_run(
    run: Path, tmp_path: Path, edit: Callable[[str], str], status: Status, code: str, *, store: bool
) -> None:
    """The other steps come; that the newest one is left behind has the exit code that `verify` has for it."""
    source = str(run)
    newest = broken(step_folder(run, 30), edit)
    if store:
        fsspec.filesystem("memory").store.clear()
        fsspec.filesystem("memory").put(f"{run}/", "/bucket/run/", recursive=True)
        source = "memory://bucket/run"
    done = copy(source, str(tmp_path / "there"))
    assert (status, {code}) == (done.status(), codes(done))
    assert [10, 20] == [unit.step for unit in done.units]
    assert status == verify(newest).status()


@BROKEN
def test_of_a_checkpoint_of_another_name(
    step: Path, tmp_path: Path, edit: Callable[[str], str], status: Status, code: str
) -> None:
    """The folders beside it say whose it is; so they do to who looks at a folder or a file in it."""
    mine = tmp_path / "mine"
    shutil.copytree(step, mine, ignore=shutil.ignore_patterns(PRIVATE_DIR))
    broken(mine, edit)
    done = copy(str(mine), str(tmp_path / "there"))
    assert (status, {code}) == (done.status(), codes(done))
    assert not (tmp_path / "there").exists()
    for path in (mine, mine / "policy"):
        assert code in {entry.code for entry in verify(path).findings}, path


def test_another_programs_is_none_of_ours(model: Path, tmp_path: Path) -> None:
    """A folder that has one is copied like any other; without folders of ours, a version says nothing."""
    for number, document in enumerate((FOREIGN, LATER)):
        (model / MANIFEST_NAME).write_text(json.dumps(document))
        done = copy(str(model), str(tmp_path / f"there{number}"))
        assert (Status.OK, [False]) == (done.status(), [unit.covered for unit in done.units])
        assert (model / MANIFEST_NAME).read_bytes() == (tmp_path / f"there{number}" / MANIFEST_NAME).read_bytes()


def test_another_programs_in_the_place_of_ours(run: Path, tmp_path: Path) -> None:
    """It is not said to be missing."""
    step = run / "checkpoints" / "best"
    step_folder(run, 30).rename(step)
    (step / MANIFEST_NAME).write_text(json.dumps(FOREIGN))
    done = copy(str(run), str(tmp_path / "there"))
    (entry,) = [entry for entry in done.findings if entry.code == "uncommitted"]
    assert "its manifest.json is another program's: " in entry.message


def test_a_file_that_the_manifest_does_not_name(step: Path, tmp_path: Path) -> None:
    """It was put there after the save: it is named and not copied, and the copy is whole without it."""
    (step / "policy" / "note.txt").write_text("mine")
    done = copy(str(step), str(tmp_path / "there"))
    (found,) = [entry for entry in done.findings if entry.code == "collect_left"]
    assert "1 file that the manifest does not name: policy/note.txt" == found.message
    assert (Status.OK, Status.OK) == (done.status(), verify(tmp_path / "there").status())
    assert not (tmp_path / "there" / "policy" / "note.txt").exists()
