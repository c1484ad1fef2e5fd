"""`orz ckpt locate` on this machine: real folders, told by names and small files."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp
from rich.console import Console
from safetensors.numpy import save_file

from orz_ckpt.cluster.fleet import Here, Node
from orz_ckpt.cluster.locate import Location, locate
from orz_ckpt.cluster.locate_text import locate_text
from orz_ckpt.node.processes import Process
from orz_ckpt.node.scan import scan
from orz_ckpt.storage import stage
from orz_cli.findings import Status
from orz_cli.main import main

pytestmark = pytest.mark.component

Limited = Callable[[], AbstractContextManager[None]]
Public = Callable[[Path], Path]
USERS = pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs users")


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let home and working directory be this test's own, and no Ray run here."""
    monkeypatch.setattr("orz_ckpt.node.roots.processes", lambda: iter(()))
    monkeypatch.setattr("orz_ckpt.node.roots.raylets", list)
    monkeypatch.setattr("orz_ckpt.node.roots._homes", lambda: iter(()))
    # Not in the module itself, where fixtures make folders by it.
    monkeypatch.setattr("orz_ckpt.node.roots.tempfile", SimpleNamespace(gettempdir=lambda: str(tmp_path / "tmp")))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


def find(*runs: object) -> Location:
    return locate(Here(), [str(run) for run in runs])


def errors(found: Location) -> list[str]:
    return [entry.code for entry in found.findings if entry.severity == "error"]


def pieces(found: Location) -> dict[str, str]:
    return {member.piece.path: member.piece.kind for group in found.groups for member in group.members}


def weights(folder: Path, name: str = "model.safetensors") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_file({"w": np.ones(3, "<f4")}, folder / name)
    return folder


def test_a_run_by_its_path(run: Path) -> None:
    """Steps are listed with what they are; a whole one needs no collecting, and is to be verified."""
    found = find(run)
    assert Status.OK == found.status()
    assert [10, 20, 30] == [group.step for group in found.groups]
    assert {(True, True)} == {(group.complete, group.members[0].piece.committed) for group in found.groups}
    assert f"orz ckpt verify {run}/checkpoints/step_000030" == found.command


def test_a_relative_path_that_landed_in_the_home_directory(alone: Path) -> None:
    """The same name below the home directory is found, though it is not below the working directory."""
    there = weights(alone / "home" / "orz_ckpt" / "exp" / "iter10" / "policy")
    (alone / "work" / "orz_ckpt" / "exp").mkdir(parents=True)
    (alone / "work" / "orz_ckpt" / "exp" / "iter10_generation_results.json").write_text("{}")
    for spelled in ("orz_ckpt/exp", alone / "work" / "orz_ckpt" / "exp"):
        found = find(spelled)
        assert (Status.OK, {str(there): "hf"}) == (found.status(), pieces(found))
        assert (10, "iter10/policy") == (found.groups[0].step, found.groups[0].rel)


@pytest.fixture
def raylet(alone: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of a raylet that runs here."""
    folder = alone / "raylet"
    folder.mkdir()
    process = Process(words=("/ray/core/src/ray/raylet/raylet", "--node_ip_address=127.0.0.1"), cwd=str(folder))
    monkeypatch.setattr("orz_ckpt.node.roots.processes", lambda: iter([process]))
    return folder


def test_a_run_at_its_path_is_not_mixed_with_one_of_its_name(alone: Path, raylet: Path) -> None:
    """Whatever lies in a raylet's working directory under the same name, newer or with what is missing here, too."""
    here = weights(alone / "data" / "run" / "iter10" / "policy", "model-00001-of-00002.safetensors")
    for step in (10, 20):
        weights(raylet / "run" / f"iter{step}" / "policy", "model-00002-of-00002.safetensors")
    weights(raylet / "data" / "run" / "iter30" / "policy")
    found = find(alone / "data" / "run")

    assert {str(here): "hf"} == pieces(found)
    assert ["pieces_incomplete"] == errors(found)
    assert [["model-00002-of-00002.safetensors"]] == [group.missing for group in found.groups]


def test_a_relative_path_is_what_it_is_below_a_raylets_folder(alone: Path, raylet: Path) -> None:
    """A relative path names no folder of its own: what landed in each folder that it may have meant is of the run."""
    here = weights(alone / "work" / "runs" / "x" / "iter10" / "policy", "model-00001-of-00002.safetensors")
    there = weights(raylet / "runs" / "x" / "iter10" / "policy", "model-00002-of-00002.safetensors")
    found = find("runs/x")

    assert {str(here): "hf", str(there): "hf"} == pieces(found)
    assert (Status.OK, True) == (found.status(), found.groups[0].complete)


def test_a_path_without_weights_is_looked_for_by_its_name(alone: Path, raylet: Path) -> None:
    """The driver made its folder and wrote records into it; the weights landed where a raylet was started."""
    (alone / "project" / "runs" / "x").mkdir(parents=True)
    (alone / "project" / "runs" / "x" / "metrics.jsonl").write_text("{}\n")
    there = weights(raylet / "runs" / "x" / "iter10" / "policy")
    found = find(alone / "project" / "runs" / "x")

    assert (Status.OK, {str(there): "hf"}) == (found.status(), pieces(found))


class TwoNodes(Here):
    """This machine twice; the second time there is nothing at `/data/`."""

    def __init__(self) -> None:
        self.nodes = (Node(name="n1"), Node(name="n2"))

    def ask(self, call: str, arguments: Mapping[str, Mapping[str, Any]], *, timeout_s: float = 1.0) -> Any:
        moved = {
            name: json.loads(json.dumps(one).replace("/data/", "/none/")) if name == "n2" else one
            for name, one in arguments.items()
        }
        return super().ask(call, moved, timeout_s=timeout_s)


def test_another_node_has_a_run_of_the_same_name(alone: Path, raylet: Path) -> None:
    """It is told, and left out: the weights of the run that was asked for lie whole at its path on the first node."""
    here = weights(alone / "data" / "run" / "iter10" / "policy")
    weights(raylet / "run" / "iter20" / "policy")
    found = locate(TwoNodes(), [str(alone / "data" / "run")])

    assert (Status.OK, {str(here): "hf"}) == (found.status(), pieces(found))
    (note,) = found.findings
    assert ("same_name", "info", "n2") == (note.code, note.severity, note.node)
    assert f"{raylet}/run has the same name" in note.message


def test_weights_in_a_runtime_environment_of_ray(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are found, with a warning that Ray will remove them."""
    monkeypatch.setenv("RAY_TMPDIR", str(alone / "r"))
    session = alone / "r" / "ray" / "session_2026-11-22_10-11-12_123456_7"
    package = session / "runtime_resources" / "working_dir_files" / "_ray_pkg_0a1b"
    there = weights(package / "runs" / "x" / "iter5" / "policy")
    found = find("runs/x")
    assert {str(there): "hf"} == pieces(found)
    assert ["piece_in_ray_session"] == [entry.code for entry in found.findings]


def test_nothing_of_that_name(alone: Path) -> None:
    """Then other weights in likely folders are listed, and the answer is a failure all the same."""
    there = weights(alone / "home" / "other" / "checkpoint-20")
    found = find("runs/none")
    assert (["nothing_located"], {str(there): "hf"}) == (errors(found), pieces(found))
    assert "1 other checkpoint is listed" in found.findings[0].message
    shutil.rmtree(there)
    assert "listed" not in find("runs/none").findings[0].message


def test_a_run_with_json_only(alone: Path) -> None:
    """A run folder that holds no weights is no find."""
    (alone / "work" / "run" / "checkpoints" / "step_000010").mkdir(parents=True)
    (alone / "work" / "run" / "metrics.jsonl").write_text("{}\n")
    assert ["nothing_located"] == errors(find("run"))


@pytest.mark.parametrize("missing", ["model-00002-of-00002.safetensors", "model.safetensors.index.json"])
def test_a_missing_shard(model: Path, missing: str) -> None:
    """Index and numbering each tell that a shard is missing; the index itself may be."""
    (model / missing).unlink()
    expected = ["pieces_incomplete"] if missing.startswith("model-") else []
    assert expected == errors(find(model))


def test_only_the_newest_step_decides(run: Path) -> None:
    """An older step that lacks a file is a warning."""
    (run / "checkpoints" / "step_000010" / "policy" / "config.json").unlink()
    found = find(run)
    assert (Status.OK, ["pieces_incomplete"]) == (found.status(), [entry.code for entry in found.findings])
    (run / "checkpoints" / "step_000030" / "policy" / "config.json").unlink()
    assert Status.FAILED == find(run).status()


def test_what_this_machine_lacks_may_be_on_another(run: Path) -> None:
    """Where no other was asked, these are to be asked before any is said to be down."""
    (run / "checkpoints" / "step_000030" / "policy" / "config.json").unlink()
    found = find(run)

    (entry,) = found.findings
    assert "lacks 1 file on this machine: policy/config.json" in entry.message
    assert f"orz ckpt locate {run} --ray " in entry.remedy
    assert found.command in entry.remedy


def test_a_file_of_another_size_than_recorded_is_missing(step: Path) -> None:
    """A truncated file is as good as none."""
    with (step / "state" / "rank_0.bin").open("r+b") as stream:
        stream.truncate(5)
    found = find(step.parent.parent)
    assert ["pieces_incomplete"] == errors(found)
    assert ["state/rank_0.bin"] == found.groups[0].missing


def test_what_is_in_flight(run: Path) -> None:
    """A folder that a save is still writing is shown, and decides nothing."""
    with stage(run / "checkpoints" / "step_000040", attempt="now") as staged:
        weights(staged.path / "policy")
        found = find(run)
        assert [True] == [group.members[0].piece.in_flight for group in found.groups if group.step == 40]
        assert f"orz ckpt verify {run}/checkpoints/step_000030" == found.command
        staged.commit(step=40, roles={"policy": "policy"}, writer="t 1")


def test_deepspeed_ranks(alone: Path) -> None:
    """One rank's file says how many there are; those that are not here are named."""
    folder = alone / "work" / "ds" / "global_step7"
    folder.mkdir(parents=True)
    for rank in (0, 1):
        for what in ("model", "optim"):
            name = f"zero_pp_rank_{rank}_mp_rank_00_{what}_states.pt"
            torch.save({"dp_world_size": 4} if what == "model" else {}, folder / name)
    found = find("ds")
    (group,) = found.groups
    assert (7, "deepspeed", [0, 1]) == (group.step, group.kind, group.members[0].piece.ranks)
    assert {
        f"zero_pp_rank_{rank}_mp_rank_00_{what}_states.pt" for rank in (2, 3) for what in ("model", "optim")
    } == set(group.missing)


def test_dcp_files(alone: Path) -> None:
    """What `.metadata` names has to be there, in torch's own words."""
    folder = alone / "work" / "dcp" / "step-3"
    with pytest.warns(UserWarning, match="single process"):
        dcp.save({"model": {"w": torch.ones(4)}}, checkpoint_id=folder, no_dist=True)
    assert Status.OK == find("dcp").status()
    (folder / "__0_0.distcp").rename(folder / "__1_0.distcp")
    assert ["__0_0.distcp"] == find("dcp").groups[0].missing
    (folder / ".metadata").unlink()
    assert False is find("dcp").groups[0].members[0].piece.committed


def test_odd_things_on_the_way(alone: Path) -> None:
    """FIFOs, links in a circle, links elsewhere and hostile names neither stop nor mislead the search."""
    base = alone / "work" / "run"
    there = weights(base / "iter1" / "policy")
    os.mkfifo(base / "iter1" / "model.safetensors")
    (base / "loop").symlink_to(base)
    (base / "elsewhere").symlink_to(weights(alone / "outside"))
    (base / "iter1" / "x\x1b[2J\n").mkdir()
    (base / "iter2").mkdir()
    (base / "iter2" / "model.safetensors").symlink_to(there / "model.safetensors")
    assert {str(there): "hf"} == pieces(find("run"))


def test_bounds_are_told(alone: Path) -> None:
    """A search that ends for want of time says so and is inconclusive; what is too deep is listed."""
    weights(alone / "work" / "run" / "iter1")
    late = scan(alone / "work", deadline=time.monotonic() - 1)
    assert (["the time was up"], []) == (late.cut, late.pieces)
    flat = scan(alone / "work", max_depth=1)
    assert ([], [f"{alone}/work/run: deeper than 1 folders"]) == (flat.pieces, flat.left_out)
    found = locate(Here(), ["run"], budget_s=-1.0)
    assert (Status.INCONCLUSIVE, "scan_cut_short") == (found.status(), found.findings[-1].code)


def test_the_root_folder_is_a_place_for_a_name(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Ray was started in `/`, as in many containers, a relative path is looked for there; it is not searched."""
    there = weights(alone / "deep" / "run" / "iter1")
    monkeypatch.chdir("/")
    assert {str(there): "hf"} == pieces(find(f"{alone}/deep/run".lstrip("/")))
    assert {} == pieces(find("no/such/run"))


def test_a_working_directory_that_was_removed(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray removes its runtime environments; who still stands in one gets an answer."""
    gone = alone / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    there = weights(alone / "home" / "run" / "iter1")
    assert {str(there): "hf"} == pieces(find("run"))


def test_json(run: Path) -> None:
    """The shared shape, a piece a line, the command."""
    answer = json.loads(json.dumps(find(run).to_json()))
    assert {"v": 1, "status": "ok", "findings": []} == {key: answer[key] for key in ("v", "status", "findings")}
    assert 3 == len(answer["pieces"])
    assert {"path", "nodes", "step", "kind", "files", "bytes", "complete", "committed"} <= set(answer["pieces"][0])
    assert answer["command"].startswith("orz ckpt verify ")


def test_a_step_folder_without_weights(alone: Path) -> None:
    """A step that holds config.json alone, as on the head of a cluster, is no find and nothing to verify."""
    policy = alone / "work" / "run" / "checkpoints" / "step_000050" / "policy"
    policy.mkdir(parents=True)
    (policy / "config.json").write_text("{}")
    found = find("run")

    assert (["nothing_located"], "") == (errors(found), found.command)
    assert f"{policy.parent} is there and holds none" in found.findings[0].message
    assert "--ray" in found.findings[0].remedy


@pytest.mark.parametrize("held", [("policy/config.json", "state/trainer.json"), ()], ids=["records alone", "empty"])
def test_a_newest_step_without_weights(run: Path, held: tuple[str, ...]) -> None:
    """The weights of the newest step went elsewhere: older ones that are whole are no answer, and others are asked."""
    newest = run / "checkpoints" / "step_000040"
    newest.mkdir()
    for name in held:
        (newest / name).parent.mkdir()
        (newest / name).write_text("{}")
    found = find(run)

    (entry,) = found.findings
    assert (Status.FAILED, "uncommitted", "checkpoints/step_000040") == (found.status(), entry.code, entry.path)
    assert (f"holds 2 files and no weights: {', '.join(held)}" if held else "is empty") in entry.message
    assert found.command.startswith(f"orz ckpt locate {run} --ray ")
    assert found.command in entry.remedy


def test_a_newest_step_without_weights_on_nodes(run: Path) -> None:
    """Where several nodes were asked, it is no longer the others that are to be asked, and what there is is at hand."""
    (run / "checkpoints" / "step_000040").mkdir()
    found = locate(TwoNodes(), [str(run)])

    assert ["uncommitted"] == errors(found)
    assert "start the nodes" in found.findings[0].remedy
    assert f"orz ckpt verify {run}/checkpoints/step_000030" == found.command


def test_a_step_without_weights_that_is_not_the_newest(run: Path) -> None:
    """A newer step has weights: what an older save left decides nothing, and neither does a save that goes on."""
    (run / "checkpoints" / "step_000005").mkdir()
    (run / "checkpoints" / "step_000040.tmp-x").mkdir()

    assert (Status.OK, []) == (find(run).status(), errors(find(run)))


@USERS
@pytest.mark.parametrize(
    ("locked", "status"),
    [
        ("", Status.INCONCLUSIVE),
        ("checkpoints", Status.INCONCLUSIVE),
        ("checkpoints/step_000030", Status.INCONCLUSIVE),
        ("checkpoints/step_000030/policy", Status.INCONCLUSIVE),
        ("checkpoints/step_000010", Status.OK),
    ],
)
def test_what_may_not_be_read(run: Path, public: Public, limited: Limited, locked: str, status: Status) -> None:
    """It is there, and no pass, and no failure either; an older step that nobody may read decides nothing."""
    path = public(run)
    (path / locked).chmod(0)
    with limited():
        found = find(path)
    (path / locked).chmod(0o755)

    (entry,) = [entry for entry in found.findings if entry.code == "unreadable"]
    assert (status, str(path / locked).rstrip("/")) == (found.status(), entry.path)
    assert "Permission denied" in entry.message
    assert ("" if status is Status.INCONCLUSIVE else f"orz ckpt verify {path}/checkpoints/step_000030") == found.command


@USERS
def test_a_run_below_a_folder_that_may_not_be_entered(run: Path, public: Public, limited: Limited) -> None:
    """Whether it is there is not known: that is not to say that it is not."""
    path = public(run)
    path.parent.chmod(0)
    with limited():
        found = find(path)
    path.parent.chmod(0o755)

    (entry,) = found.findings
    assert (Status.INCONCLUSIVE, "unreadable", str(path)) == (found.status(), entry.code, entry.path)


@USERS
def test_a_manifest_that_may_not_be_read(run: Path, public: Public, limited: Limited) -> None:
    """Nobody can say that the save never came to its end."""
    path = public(run)
    manifest = path / "checkpoints" / "step_000030" / "manifest.json"
    manifest.chmod(0)
    with limited():
        found = find(path)

    (entry,) = found.findings
    (piece,) = [group.members[0].piece for group in found.groups if group.step == 30]
    assert (Status.INCONCLUSIVE, "unreadable", None) == (found.status(), entry.code, piece.committed)
    assert "its manifest cannot be read: Permission denied" in entry.message
    console = Console(width=200, record=True)
    console.print(locate_text(found))
    assert ["yes", "yes", "?"] == [line.split()[-1] for line in console.export_text().splitlines() if " orz " in line]


def test_a_disk_that_fails(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that the disk does not give is no folder without weights."""
    real = os.scandir

    def failing(path: object) -> Any:
        if str(path).endswith("step_000030"):
            raise OSError(5, "Input/output error", path)
        return real(path)

    monkeypatch.setattr("orz_ckpt.node.scan.os.scandir", failing)
    found = find(run)
    assert (Status.INCONCLUSIVE, ["unreadable"]) == (found.status(), errors(found))


def test_a_manifest_of_a_later_version(run: Path) -> None:
    """It is no save that never came to its end: whoever has a newer orz-ckpt can say what it is."""
    folder = run / "checkpoints" / "step_000030"
    shutil.rmtree(folder / ".orz")
    manifest = folder / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "v": 2}))
    found = find(run)

    (entry,) = found.findings
    assert (Status.INCONCLUSIVE, "manifest_newer") == (found.status(), entry.code)
    assert "pip install --upgrade orz-ckpt" in entry.remedy
    manifest.write_text("{")
    assert (Status.FAILED, ["manifest_torn"]) == (find(run).status(), errors(find(run)))


def test_an_uncommitted_step(run: Path) -> None:
    """Weights of which no manifest and no record says whether they are all: no pass, if they are the newest."""
    (run / "checkpoints" / "step_000030" / "manifest.json").unlink()
    shutil.rmtree(run / "checkpoints" / "step_000030" / ".orz")
    assert ["uncommitted"] == errors(find(run))
    shutil.rmtree(run / "checkpoints" / "step_000030")
    assert Status.OK == find(run).status()


@pytest.mark.parametrize("left", [0, 7, -1])
def test_a_torn_file_of_weights(alone: Path, left: int) -> None:
    """An empty file, and one that ends before its header says, are as good as missing."""
    folder = weights(alone / "work" / "run" / "iter5" / "policy")
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:left])
    found = find("run")

    assert (["pieces_incomplete"], False) == (errors(found), found.groups[0].complete)
    assert ["model.safetensors"] == found.groups[0].missing


def test_pieces_that_are_whole_lack_nothing(run: Path) -> None:
    """In JSON, too: a role's folder with weights in it is there."""
    assert [(True, [])] * 3 == [(piece["complete"], piece["missing"]) for piece in find(run).to_json()["pieces"]]


def test_other_runs_are_no_answer(alone: Path) -> None:
    """Where nothing of a name is found, no command is given for what is, and copies under way are no runs."""
    for number in range(15):
        weights(alone / "home" / "other" / f"checkpoint-{number}")
    weights(alone / "home" / ".ct.orz-copy" / "files")
    found = find("none")
    console = Console(width=200, record=True)
    console.print(locate_text(found))
    text = console.export_text()

    assert (15, "") == (len(found.groups), found.command)
    assert (False, True) == ("checkpoint-4 " in text, "checkpoint-14 " in text)
    assert "and 5 other checkpoints" in text


def test_a_file_is_no_run(alone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file of weights that is there is not looked for on all nodes."""
    file = weights(alone / "work" / "run") / "model.safetensors"

    assert 2 == main(["ckpt", "locate", str(file)])
    assert f"orz ckpt verify {file}" in capsys.readouterr().err
