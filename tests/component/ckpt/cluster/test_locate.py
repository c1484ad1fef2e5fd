"""Where `orz ckpt locate` looks for a run, and what it takes for one: real folders, told by names and small files."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from safetensors.numpy import save_file

from orz_ckpt.cluster.collect.run import collect
from orz_ckpt.cluster.fleet import Answer, Fleet, Here, Node, Trouble
from orz_ckpt.cluster.locate import Location, locate
from orz_ckpt.cluster.locate_text import locate_text
from orz_ckpt.cluster.verify import verify_nodes
from orz_ckpt.node.processes import Process
from orz_ckpt.node.scan import scan
from orz_cli.findings import Status
from orz_cli.main import main

pytestmark = [pytest.mark.component, pytest.mark.usefixtures("alone")]


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


@pytest.fixture
def raylet(alone: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of a raylet that runs here."""
    folder = alone / "raylet"
    folder.mkdir()
    process = Process(words=("/ray/core/src/ray/raylet/raylet", "--node_ip_address=127.0.0.1"), cwd=str(folder))
    monkeypatch.setattr("orz_ckpt.node.roots.processes", lambda: iter([process]))
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


class OtherMachine(Here):
    """A host that was asked by name, whose files this machine does not see."""

    flags = "--hosts b"

    def __init__(self, *hidden: Path) -> None:
        self.nodes = (Node(name="here"), Node(name="b"))
        self._hidden = hidden

    def ask(self, call: str, arguments: Mapping[str, Mapping[str, Any]], *, timeout_s: float = 1.0) -> Any:
        answers = super().ask(call, arguments, timeout_s=timeout_s)
        for name, answer in answers.items():
            mine = [
                piece
                for piece in answer.value["pieces"]
                if (name == "b") == any(piece["path"].startswith(str(folder)) for folder in self._hidden)
            ]
            answers[name] = replace(answer, value={**answer.value, "pieces": mine})
        return answers


def test_without_a_run_each_has_its_command(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies whole on this machine is to be verified, what lies on another to be collected from there."""
    here = weights(alone / "work" / "runs" / "x" / "iter20" / "policy")
    there = weights(alone / "work" / "runs" / "y" / "iter10" / "policy")
    monkeypatch.setattr("orz_ckpt.cluster.locate.is_here", lambda piece: piece.path == str(here))
    found = locate(OtherMachine(there), [])
    run = there.parent.parent
    assert {
        f"orz ckpt verify {here}",
        f"orz ckpt collect {run} --to {run}-collected --hosts b",
    } == set(found.commands)
    assert found.commands[0] == found.command == found.to_json()["command"]
    assert list(found.commands) == found.to_json()["commands"]


def test_many_runs_have_some_commands(alone: Path) -> None:
    """Text shows the newest five, and where all are."""
    for number in range(7):
        path = weights(alone / "work" / f"run{number}" / "iter10" / "policy") / "model.safetensors"
        os.utime(path, (number, number))
    console = Console(width=300, record=True)
    console.print(locate_text(find()))
    said = console.export_text()
    assert [6, 5, 4, 3, 2] == [int(line.split("/run")[1][0]) for line in said.splitlines() if "  next  " in line]
    assert "and so for 2 other runs" in said


def test_the_list_of_other_weights_asks_the_same_nodes(alone: Path) -> None:
    """Of a run that is nowhere; what is listed there lies on nodes that are asked only by their names."""
    there = weights(alone / "work" / "runs" / "y" / "iter10" / "policy")
    for fleet, command in ((OtherMachine(there), "orz ckpt locate --hosts b"), (Here(), "orz ckpt locate")):
        (entry,) = [entry for entry in locate(fleet, ["nothing"]).findings if entry.code == "nothing_located"]
        assert entry.message.endswith(f"1 other checkpoint is listed by: {command}")
        assert entry.remedy.endswith(f"without one: {command}")


def test_who_may_still_have_what_no_node_has(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asked other nodes isn't told to: one that is down may have it, or one that was not among them."""

    def remedy(fleet: Here) -> str:
        (entry,) = [entry for entry in locate(fleet, ["nothing"]).findings if entry.code == "nothing_located"]
        return entry.remedy.partition("; look by another name")[0]

    assert "ask the nodes that took part: --ray or --hosts" == remedy(Here())
    assert "ask others that took part, if there are: --hosts" == remedy(OtherMachine())
    down = Answer(node=Node(name="b"), trouble=Trouble.UNREACHABLE)
    ask = OtherMachine.ask
    monkeypatch.setattr(OtherMachine, "ask", lambda *given, **options: {**ask(*given, **options), "b": down})
    assert "start the nodes that took part and are down, then locate again" == remedy(OtherMachine())


def test_another_node_has_a_run_of_the_same_name(alone: Path, raylet: Path, two_nodes: Fleet) -> None:
    """It is told, and left out: the weights of the run that was asked for lie whole at its path on the first node."""
    here = weights(alone / "data" / "run" / "iter10" / "policy")
    weights(raylet / "run" / "iter20" / "policy")
    found = locate(two_nodes, [str(alone / "data" / "run")])

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


def test_a_whole_step_is_no_pass_where_the_search_ended_early(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A newer and broken one lies where it did not come: inconclusive, whoever searched, and nothing is to be done."""
    run = alone / "work" / "run"
    weights(run / "global_step_10")
    (run / "global_step_20").mkdir()
    (run / "global_step_20" / "model.safetensors").write_bytes(b"torn")
    whole = find(run)
    assert 2 == len(whole.groups)
    monkeypatch.setattr("orz_ckpt.node.scan.MAX_PIECES", 1)  # the second is not looked at
    found = find(run)
    assert [10] == [group.step for group in found.groups]
    assert (Status.INCONCLUSIVE, ["scan_cut_short"], []) == (found.status(), errors(found), found.commands)
    assert Status.INCONCLUSIVE == verify_nodes(Here(), str(run)).status()
    done = collect(Here(), [str(run)], alone / "home")
    assert (Status.INCONCLUSIVE, True) == (done.status(), (alone / "home" / "global_step_10").is_dir())


def test_a_file_is_no_run(alone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file of weights that is there is not looked for on all nodes."""
    file = weights(alone / "work" / "run") / "model.safetensors"

    assert 2 == main(["ckpt", "locate", str(file)])
    assert f"orz ckpt verify {file}" in capsys.readouterr().err


def test_a_file_called_metadata_that_is_none_of_torch(alone: Path) -> None:
    """Alone in a folder it is a part of a checkpoint only if it can be read as one."""
    weights(alone / "data" / "run" / "iter10")
    (alone / "data" / "run" / "notes").mkdir()
    (alone / "data" / "run" / "notes" / ".metadata").write_text("mine")

    assert [str(alone / "data" / "run" / "iter10")] == list(pieces(find(alone / "data" / "run")))
