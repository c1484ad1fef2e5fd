"""What `orz ckpt locate` says of the steps that it found: which pieces are whole, and that the newest step decides."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.numpy import save_file

from orz_ckpt.cluster.collect.run import collect
from orz_ckpt.cluster.fleet import Fleet, Here
from orz_ckpt.cluster.locate import Location, locate
from orz_ckpt.disk.trash import throw_away
from orz_ckpt.inventory import step_folder
from orz_ckpt.storage import stage
from orz_cli.findings import Status

pytestmark = [pytest.mark.component, pytest.mark.usefixtures("alone")]


def find(*runs: object) -> Location:
    return locate(Here(), [str(run) for run in runs])


def errors(found: Location) -> list[str]:
    return [entry.code for entry in found.findings if entry.severity == "error"]


def weights(folder: Path, name: str = "model.safetensors") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_file({"w": np.ones(3, "<f4")}, folder / name)
    return folder


@pytest.mark.parametrize("missing", ["model-00002-of-00002.safetensors", "model.safetensors.index.json"])
def test_a_missing_shard(model: Path, missing: str) -> None:
    """Index and numbering each tell that a shard is missing; the index itself may be."""
    (model / missing).unlink()
    expected = ["pieces_incomplete"] if missing.startswith("model-") else []
    assert expected == errors(find(model))


def test_a_file_of_another_size_than_recorded_is_missing(step: Path) -> None:
    """A truncated file is as good as none."""
    with (step / "state" / "rank_0.bin").open("r+b") as stream:
        stream.truncate(5)
    found = find(step.parent.parent)
    assert ["pieces_incomplete"] == errors(found)
    assert ["state/rank_0.bin"] == found.groups[0].missing


@pytest.mark.parametrize("left", [0, 7, -1])
def test_a_torn_file_of_weights(alone: Path, left: int) -> None:
    """An empty file, and one that ends before its header says, are as good as missing."""
    folder = weights(alone / "work" / "run" / "iter5" / "policy")
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:left])
    found = find("run")

    assert (["pieces_incomplete"], False) == (errors(found), found.groups[0].complete)
    assert ["model.safetensors"] == found.groups[0].missing


class Asked(Here):
    """This machine as a node that was asked by its name."""

    flags = "--hosts b"


@pytest.mark.parametrize("gone", [False, True])
def test_a_file_that_is_cut_off_is_not_said_to_be_on_no_node(halves: list[str], tmp_path: Path, gone: bool) -> None:
    """It is named with its node and what is there of it; nodes are to be started only where a file is on none."""
    shard = step_folder(Path(halves[1]), 50) / "policy" / "model-00002-of-00002.safetensors"
    nbytes = shard.stat().st_size - 4
    with shard.open("r+b") as stream:
        stream.truncate(nbytes)
    if gone:
        (step_folder(Path(halves[0]), 50) / "policy" / "tokenizer.json").unlink()
    node = Here().nodes[0].name
    cut = f"1 file that is cut off, or of another size than was saved: policy/{shard.name} on {node} ({nbytes:,} bytes)"
    for done in (locate(Asked(), halves), collect(Asked(), halves, tmp_path / "out")):
        (found,) = [entry for entry in done.findings if entry.code == "pieces_incomplete"]
        lacks = "lacks 1 file that no node has: policy/tokenizer.json, and has" if gone else "has"
        assert f"checkpoints/step_000050 {lacks} {cut}" == found.message
        assert gone is ("start the nodes" in found.remedy)
        assert "take an older step" in found.remedy


def test_the_only_weights_are_cut_off(alone: Path) -> None:
    """What a folder wants of weights is there, and damaged: it is not said twice, as missing and as damaged."""
    policy = alone / "work" / "run" / "checkpoints" / "step_000007" / "policy"
    file = weights(policy) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    (found,) = [entry for entry in locate(Asked(), ["run"]).findings if entry.severity == "error"]
    assert "lacks" not in found.message
    assert "policy/model.safetensors on" in found.message


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


def test_pieces_that_are_whole_lack_nothing(run: Path) -> None:
    """In JSON, too: a role's folder with weights in it is there."""
    assert [(True, [])] * 3 == [(piece["complete"], piece["missing"]) for piece in find(run).to_json()["pieces"]]


def test_json(run: Path) -> None:
    """The shared shape, a piece a line, the command."""
    answer = json.loads(json.dumps(find(run).to_json()))
    assert {"v": 1, "status": "ok", "findings": []} == {key: answer[key] for key in ("v", "status", "findings")}
    assert 3 == len(answer["pieces"])
    assert {"path", "nodes", "step", "kind", "files", "bytes", "complete", "committed"} <= set(answer["pieces"][0])
    assert answer["command"].startswith("orz ckpt verify ")


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


def test_what_is_in_flight(run: Path) -> None:
    """A folder that a save is still writing is shown, and decides nothing."""
    with stage(run / "checkpoints" / "step_000040", attempt="now") as staged:
        weights(staged.path / "policy")
        found = find(run)
        assert [True] == [group.members[0].piece.in_flight for group in found.groups if group.step == 40]
        assert f"orz ckpt verify {run}/checkpoints/step_000030" == found.command
        staged.commit(step=40, roles={"policy": "policy"}, writer="t 1")


def test_what_was_thrown_away(run: Path) -> None:
    """A step that is no longer kept, half deleted, is none: neither shown nor missed."""
    trash = throw_away(run / "checkpoints" / "step_000010")
    next(trash.rglob("*.safetensors")).unlink()
    found = find(run)
    assert (Status.OK, [20, 30]) == (found.status(), [group.step for group in found.groups])


def test_an_uncommitted_step(run: Path) -> None:
    """Weights of which no manifest and no record says whether they are all: no pass, if they are the newest."""
    (run / "checkpoints" / "step_000030" / "manifest.json").unlink()
    shutil.rmtree(run / "checkpoints" / "step_000030" / ".orz")
    assert ["uncommitted"] == errors(find(run))
    shutil.rmtree(run / "checkpoints" / "step_000030")
    assert Status.OK == find(run).status()


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


def test_a_newest_step_without_weights_on_nodes(run: Path, two_nodes: Fleet) -> None:
    """Where several nodes were asked, it is no longer the others that are to be asked, and what there is is at hand."""
    (run / "checkpoints" / "step_000040").mkdir()
    found = locate(two_nodes, [str(run)])

    assert ["uncommitted"] == errors(found)
    assert "start the nodes" in found.findings[0].remedy
    assert f"orz ckpt verify {run}/checkpoints/step_000030" == found.command


def test_a_step_without_weights_that_is_not_the_newest(run: Path) -> None:
    """A newer step has weights: what an older save left decides nothing, and neither does a save that goes on."""
    (run / "checkpoints" / "step_000005").mkdir()
    (run / "checkpoints" / "step_000040.tmp-x").mkdir()

    assert (Status.OK, []) == (find(run).status(), errors(find(run)))
