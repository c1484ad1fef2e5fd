"""What `orz ckpt collect` refuses: pieces that do not belong together, damage, and whatever lies at the destination."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from orz_ckpt.cluster.collect.journal import CollectRunningError
from orz_ckpt.cluster.collect.run import collect
from orz_ckpt.cluster.fleet import Here
from orz_ckpt.inventory import step_folder
from orz_ckpt.manifest import MANIFEST_NAME
from orz_cli.errors import UsageError
from orz_cli.findings import Status

pytestmark = pytest.mark.component


def digests(*folders: object) -> dict[str, str]:
    found = [path for folder in folders for path in Path(str(folder)).rglob("*") if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def errors(done) -> list[str]:
    return [entry.code for entry in done.findings if entry.severity == "error"]


def test_halves_of_different_saves_do_not_mix(tmp_path: Path, half: Callable[..., Path]) -> None:
    """Two attempts at one step are not one checkpoint."""
    runs = [str(half(tmp_path / f"d{part}", part, attempt=f"a{part}")) for part in (1, 2)]
    done = collect(Here(), runs, tmp_path / "out")
    assert ["saves_mixed"] == errors(done)
    assert not (tmp_path / "out" / "checkpoints").exists()


def test_a_conflict_names_both(tmp_path: Path) -> None:
    """One name with different bytes on two disks: an error that names both, and nothing is published."""
    runs = []
    for number in (1, 2):
        folder = tmp_path / f"d{number}" / "iter1"
        folder.mkdir(parents=True)
        save_file({"w": np.full(10, number, "<f4")}, folder / "model.safetensors")
        runs.append(str(folder.parent))
    done = collect(Here(), runs, tmp_path / "out")
    (found,) = [entry for entry in done.findings if entry.severity == "error"]
    assert "collect_conflict" == found.code
    assert all(f"{run}/iter1/model.safetensors" in found.message for run in runs)
    assert not (tmp_path / "out" / "iter1").exists()


def test_nothing_at_the_destination_is_replaced(halves: list[str], half: Callable[..., Path], tmp_path: Path) -> None:
    """Another file under that name, and a committed step that is not all of this one, both stand."""
    other = step_folder(tmp_path / "out", 50) / "policy" / "model-00001-of-00002.safetensors"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"mine")
    done = collect(Here(), halves, tmp_path / "out")
    assert ("collect_conflict", b"mine") == (errors(done)[0], other.read_bytes())

    committed = half(tmp_path / "third", 1)
    before = digests(committed)
    done = collect(Here(), halves, committed)
    assert {"collect_conflict"} == set(errors(done))
    assert any("is committed already" in entry.message for entry in done.findings)
    assert before == digests(committed)


def test_bytes_damaged_at_the_source(halves: list[str], tmp_path: Path) -> None:
    """What was recorded when it was saved decides: a rotten file is not collected as if it were sound."""
    path = step_folder(Path(halves[1]), 50) / "policy" / "model-00002-of-00002.safetensors"
    with path.open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        stream.write(b"\x55")
    done = collect(Here(), halves, tmp_path / "out")
    assert ["collect_differs"] == errors(done)
    assert str(path) in next(entry.message for entry in done.findings if entry.code == "collect_differs")
    assert not (step_folder(tmp_path / "out", 50) / MANIFEST_NAME).exists()


def test_a_hostile_node(halves: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that names a file outside of the checkpoint is refused, whatever else it has."""

    class Hostile(Here):
        def ask(self, call, arguments, *, timeout_s=1.0):
            answers = super().ask(call, arguments, timeout_s=timeout_s)
            if call == "locate":
                for answer in answers.values():
                    for piece in answer.value["pieces"]:
                        piece["files"]["../../../evil"] = 1
            return answers

    done = collect(Hostile(), halves, tmp_path / "out")
    assert (Status.REFUSED, ["path_escapes"]) == (done.status(), errors(done))
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize("dest", ["file", "inside"])
def test_places_that_cannot_be_collected_to(run: Path, tmp_path: Path, dest: str) -> None:
    """A file, and a folder inside of what is collected, are wrong usage."""
    (tmp_path / "file").write_text("x")
    path = tmp_path / "file" if dest == "file" else step_folder(run, 30) / "policy" / "x"
    with pytest.raises(UsageError, match="not a folder" if dest == "file" else "lies inside the run"):
        collect(Here(), [str(run)], path)


def test_two_at_once(halves: list[str], tmp_path: Path) -> None:
    """A second process that collects into the same folder is told so."""
    source = (
        "import sys; from pathlib import Path; from orz_ckpt.cluster.collect.journal import CollectJournal\n"
        "with CollectJournal(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", source, tmp_path / "out"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert "held" == process.stdout.readline().strip()
        with pytest.raises(CollectRunningError, match="another process collects"):
            collect(Here(), halves, tmp_path / "out")
        process.communicate()
