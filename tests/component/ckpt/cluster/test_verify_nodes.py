"""`orz ckpt verify --hosts/--ray`: each node verifies its own disk, and together they give the verdict."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from orz_ckpt.cluster.fleet import Here, Node, Trouble
from orz_ckpt.cluster.verify import verify_nodes
from orz_ckpt.cluster.verify_outcome import ClusterReport
from orz_ckpt.findings import Level
from orz_ckpt.inventory import step_folder
from orz_ckpt.manifest import MANIFEST_NAME
from orz_ckpt.node.verifying import verify_pieces
from orz_ckpt.storage import stage
from orz_cli.findings import Severity, Status
from orz_cli.main import main

pytestmark = [pytest.mark.component, pytest.mark.usefixtures("path_alone")]

POLICY = {
    "architectures": ["Qwen2ForCausalLM"],
    "vocab_size": 33,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
PARTS = {
    "n1": ["config.json", "tokenizer.json", "model.safetensors.index.json", "model-00001-of-00002.safetensors"],
    "n2": ["model-00002-of-00002.safetensors"],
}


class Disks(Here):
    """Nodes that are this machine, each of which sees `/run` on a disk of its own: a folder below `base`."""

    def __init__(self, base: Path, *names: str, lost: tuple[str, ...] = ()) -> None:
        self.base = base
        self.nodes = tuple(Node(name=name, lost=name in lost) for name in (*names, *lost))

    def ask(self, call: str, arguments: Mapping[str, Mapping[str, Any]], *, timeout_s: float = 1.0) -> Any:
        answers = {}
        for node in self.nodes:
            if node.name in arguments:
                alone = Here()
                alone.nodes = (node,)
                there = json.loads(json.dumps(arguments[node.name]).replace('"/run', f'"{self.base}/{node.name}/run'))
                answer = alone.ask(call, {node.name: there})[node.name]
                # What crosses the wire is JSON, with the paths that this node knows.
                value = json.loads(json.dumps(answer.value).replace(f"{self.base}/{node.name}/run", "/run"))
                answers[node.name] = replace(answer, value=value)
        return answers


@pytest.fixture
def save(tmp_path: Path, make_model):
    """Return what commits a node's half of a step on its own disk."""
    model = make_model(tmp_path / "model", POLICY, shards=2)

    def commit(node: str, step: int = 50, *, attempt: str = "one") -> Path:
        with stage(step_folder(tmp_path / node / "run", step), attempt=attempt) as staged:
            policy = staged.path / "policy"
            policy.mkdir()
            for name in PARTS[node]:
                shutil.copyfile(model / name, policy / name)
            meta = {"nodes": ["n1", "n2"]}
            staged.commit(step=step, roles={"policy": "policy"}, writer="t 1", node=node, meta=meta)
        return step_folder(tmp_path / node / "run", step)

    return commit


def errors(report: ClusterReport) -> list[tuple[str, str]]:
    return [(entry.code, entry.node) for entry in report.findings if entry.severity == "error"]


def codes(report: ClusterReport) -> set[str]:
    return {entry.code for entry in report.findings}


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))


def test_two_halves_on_two_disks(save, tmp_path: Path) -> None:
    """Neither node has all; what both recorded says that together they do, every byte right."""
    save("n1")
    save("n2")
    report = verify_nodes(Disks(tmp_path, "n1", "n2"), "/run")
    assert (Status.OK, []) == (report.status(), errors(report)), report.findings
    assert {("n1", False, 4), ("n2", False, 1)} == {(one.node, one.whole, one.files) for one in report.pieces}
    assert ("checkpoints/step_000050", True) == (report.newest_good, "verified_apart" in codes(report))


def test_a_byte_that_changed_on_one_node(save, tmp_path: Path) -> None:
    """It is found there, and the finding names node and file; by sizes alone it is not."""
    save("n1")
    flip(save("n2") / "policy" / "model-00002-of-00002.safetensors")
    report = verify_nodes(Disks(tmp_path, "n1", "n2"), "/run")
    assert (Status.FAILED, [("digest_differs", "n2")]) == (report.status(), errors(report))
    (found,) = [entry for entry in report.findings if entry.code == "digest_differs"]
    assert "/run/checkpoints/step_000050/policy/model-00002-of-00002.safetensors" == found.path
    assert "" == report.newest_good
    assert Status.OK == verify_nodes(Disks(tmp_path, "n1", "n2"), "/run", level=Level.QUICK).status()


class Counted:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.total, self.steps = 0, list[int]()

    def add_total(self, nbytes: int) -> None:
        self.total += nbytes

    def advance(self, nbytes: int) -> None:
        self.steps.append(nbytes)


def bytes_below(*folders: Path) -> list[int]:
    """What a piece counts: every file of the folder, the manifest and the records of nodes with it."""
    return [sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) for folder in folders]


def test_progress_is_told_piece_by_piece(save, tmp_path: Path) -> None:
    """The bytes of all pieces are expected, and each counts when its node has answered; a silent one never does."""
    pieces = bytes_below(save("n1"), save("n2"), save("n1", 60))
    told = Counted()
    verify_nodes(Disks(tmp_path, "n1", "n2"), "/run", progress=told)
    assert (sum(pieces), sorted(pieces)) == (told.total, sorted(told.steps))


def test_a_node_that_fails_once_is_not_asked_again(save, tmp_path: Path) -> None:
    """Its other pieces would fail alike; those of other nodes are verified."""
    for step in (50, 60):
        save("n1", step)
        save("n2", step)
    asked: list[str] = []

    class Failing(Disks):
        def ask(self, call: str, arguments: Mapping[str, Mapping[str, Any]], *, timeout_s: float = 1.0) -> Any:
            answers = super().ask(call, arguments, timeout_s=timeout_s)
            if call == "verify":
                asked.extend(arguments)
                if "n2" in answers:
                    answers["n2"] = replace(answers["n2"], value=None, trouble=Trouble.FAILED, message="it broke")
            return answers

    report = verify_nodes(Failing(tmp_path, "n1", "n2"), "/run")
    assert ["n1", "n2", "n1"] == asked
    assert Status.INCONCLUSIVE == report.status()
    assert [("node_failed", "n2")] == errors(report)
    assert 2 == len(report.pieces)


def test_a_node_that_is_gone_is_no_pass(save, tmp_path: Path) -> None:
    """With its half it is inconclusive; and so it is where the others have all, for who knows what it has."""
    save("n1")
    save("n2")
    half = verify_nodes(Disks(tmp_path, "n1", lost=("n2",)), "/run")
    assert Status.INCONCLUSIVE == half.status()
    assert {("node_unreachable", "n2"), ("pieces_incomplete", "")} == set(errors(half))
    both = verify_nodes(Disks(tmp_path, "n1", "n2", lost=("n3",)), "/run")
    assert (Status.INCONCLUSIVE, [("node_unreachable", "n3")]) == (both.status(), errors(both))


def test_a_node_that_dies_while_it_verifies(save, tmp_path: Path) -> None:
    """Its answer is missing: inconclusive, and no checkpoint is called good."""
    save("n1")
    save("n2")

    class Dies(Disks):
        def ask(self, call: str, arguments: Mapping[str, Mapping[str, Any]], *, timeout_s: float = 1.0) -> Any:
            answers = super().ask(call, arguments, timeout_s=timeout_s)
            if call == "verify":
                answers["n2"] = replace(answers["n2"], value=None, trouble=Trouble.UNREACHABLE, message="gone")
            return answers

    report = verify_nodes(Dies(tmp_path, "n1", "n2"), "/run")
    assert (Status.INCONCLUSIVE, "") == (report.status(), report.newest_good)
    assert [("node_unreachable", "n2")] == errors(report)


def test_half_that_nobody_has(save, tmp_path: Path) -> None:
    """All nodes answer, and a file is on none: failed. A save that never came to its end is uncommitted."""
    folder = save("n1")
    report = verify_nodes(Disks(tmp_path, "n1"), "/run")
    assert (Status.FAILED, [("pieces_incomplete", "")]) == (report.status(), errors(report))
    (folder / MANIFEST_NAME).unlink()
    assert {("pieces_incomplete", ""), ("uncommitted", "")} == set(errors(verify_nodes(Disks(tmp_path, "n1"), "/run")))


def test_a_manifest_of_a_later_version(run: Path) -> None:
    """It cannot be judged by this version: inconclusive, neither broken nor uncommitted."""
    manifest = step_folder(run, 30) / MANIFEST_NAME
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "v": 2}))
    report = verify_nodes(Here(), str(run))

    assert (Status.INCONCLUSIVE, {"manifest_newer"}) == (report.status(), {code for code, _ in errors(report)})
    assert report.newest_good.endswith("step_000020")


def newer(folder: Path) -> None:
    manifest = folder / MANIFEST_NAME
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "v": 2}))


def torn(folder: Path) -> None:
    (folder / MANIFEST_NAME).write_text("{")


def gone(folder: Path) -> None:
    (folder / MANIFEST_NAME).unlink()


@pytest.mark.parametrize("records", [True, False], ids=["with records of nodes", "alone"])
@pytest.mark.parametrize(("spoil", "code"), [(newer, "manifest_newer"), (torn, "manifest_torn"), (gone, "uncommitted")])
@pytest.mark.parametrize("step", [10, 30])
def test_a_manifest_that_is_of_no_use_is_told_once(
    run: Path, spoil: Callable[[Path], None], code: str, records: bool, step: int
) -> None:
    """Whoever notices: the search, what nodes recorded, or the node that verifies; of an older step as a warning."""
    spoil(step_folder(run, step))
    if not records:
        shutil.rmtree(step_folder(run, step) / ".orz")
    report = verify_nodes(Here(), str(run))
    (entry,) = [entry for entry in report.findings if entry.severity is not Severity.INFO]

    assert (code, step == 30) == (entry.code, entry.severity is Severity.ERROR)
    assert f"step_{step:06d}" in entry.path
    assert f"step_{20 if step == 30 else 30:06d}" in report.newest_good


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs users")
def test_a_manifest_that_may_not_be_read_is_told_once(
    run: Path, public: Callable[[Path], Path], limited: Callable[[], AbstractContextManager[None]]
) -> None:
    """The search meets it, and so does the node that verifies: one finding, and no verdict."""
    path = public(run)
    (step_folder(path, 30) / MANIFEST_NAME).chmod(0)
    shutil.rmtree(step_folder(path, 30) / ".orz")
    with limited():
        report = verify_nodes(Here(), str(path))

    assert (Status.INCONCLUSIVE, ["unreadable"]) == (report.status(), [code for code, _ in errors(report)])
    assert report.newest_good.endswith("step_000020")


def test_a_step_without_weights_is_told_once(run: Path) -> None:
    """The driver's part of a save whose weights went elsewhere: one error says what is there, and what to do."""
    (step_folder(run, 40)).mkdir()
    (step_folder(run, 40) / "evaluation.json").write_text("{}")
    report = verify_nodes(Here(), str(run))

    assert ["uncommitted"] == [code for code, _ in errors(report)]
    assert "newer than all weights" in next(entry.message for entry in report.findings if entry.severity == "error")


def test_an_older_step_does_not_decide(save, tmp_path: Path) -> None:
    """What is wrong with it is a warning; where the newest is wrong, the older one is named."""
    old = save("n1", 40)
    save("n2", 40)
    save("n1", 50)
    new = save("n2", 50)
    flip(old / "policy" / "model-00001-of-00002.safetensors")
    report = verify_nodes(Disks(tmp_path, "n1", "n2"), "/run")
    assert (Status.OK, Status.FAILED) == (report.status(), report.status(Severity.WARN))
    flip(old / "policy" / "model-00001-of-00002.safetensors")
    flip(new / "policy" / "model-00002-of-00002.safetensors")
    report = verify_nodes(Disks(tmp_path, "n1", "n2"), "/run")
    assert (Status.FAILED, "checkpoints/step_000040") == (report.status(), report.newest_good)
    assert any("step_000040" in entry.message for entry in report.findings if entry.code == "newest_good")


def shard(folder: Path, rank: int, *, world: int = 2) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"model_world_size_{world}_rank_{rank}.pt"
    torch.save({"w": torch.arange(4.0)}, path)
    torch.save({"lr_scheduler": {"last_epoch": 5}}, folder / f"extra_state_world_size_{world}_rank_{rank}.pt")
    return path


def test_ranks_of_another_framework(tmp_path: Path) -> None:
    """Shards of FSDP: ranks are named per node; a NaN, a rank that nobody has, and a torn file are found."""
    shard(tmp_path / "n1/run/global_step_5/actor", 0)
    second = shard(tmp_path / "n2/run/global_step_5/actor", 1)
    report = verify_nodes(Disks(tmp_path, "n1", "n2"), "/run")
    assert (Status.OK, {("n1", (0,)), ("n2", (1,))}) == (
        report.status(),
        {(piece.node, piece.ranks) for piece in report.pieces},
    ), report.findings
    torch.save({"w": torch.tensor([1.0, float("nan")])}, second)
    assert [("not_finite", "n2")] == errors(verify_nodes(Disks(tmp_path, "n1", "n2"), "/run"))
    second.write_bytes(second.read_bytes()[:-30])
    assert [("torch_invalid", "n2")] == errors(verify_nodes(Disks(tmp_path, "n1", "n2"), "/run"))
    second.unlink()
    assert "pieces_incomplete" in {code for code, _ in errors(verify_nodes(Disks(tmp_path, "n1", "n2"), "/run"))}


def test_a_nan_in_a_partition_of_zero(tmp_path: Path) -> None:
    """It may be padding, of which only all ranks together tell: neither a pass nor a failure."""
    for name in ("bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt", "mp_rank_00_model_states.pt"):
        torch.save({"flat": torch.tensor([1.0, float("nan")])}, tmp_path / name)
    (said,) = verify_pieces([{"path": str(tmp_path), "whole": False, "entries": {}}], level="full")
    found = {Path(entry["path"]).name[:5]: entry["status"] for entry in said["findings"]}
    assert {"bf16_": "inconclusive", "mp_ra": "failed"} == found


def test_shards_that_only_their_metadata_explains(tmp_path: Path) -> None:
    """Files of torch's distributed checkpoints are not passed over in silence: inconclusive."""
    (tmp_path / "__1_0.distcp").write_bytes(b"x" * 100)
    (said,) = verify_pieces([{"path": str(tmp_path), "whole": False, "entries": {}}], level="full")
    assert [("weights_not_read", "inconclusive")] == [(entry["code"], entry["status"]) for entry in said["findings"]]


def test_copies_that_differ(tmp_path: Path) -> None:
    """Two nodes with other bytes under one name contradict each other."""
    for number, node in enumerate(("n1", "n2")):
        folder = tmp_path / node / "run" / "iter1"
        folder.mkdir(parents=True)
        save_file({"w": np.full(10, number + 1, "<f4")}, folder / "model.safetensors")
    report = verify_nodes(Disks(tmp_path, "n1", "n2"), "/run")
    assert "collect_conflict" in {code for code, _ in errors(report)}


def test_a_shared_disk_is_read_once(run: Path) -> None:
    """Nodes that see one folder do not all read it."""
    fleet = Here()
    fleet.nodes = (Node(name="a"), Node(name="b"))
    report = verify_nodes(fleet, str(run))
    assert (Status.OK, 3) == (report.status(), len(report.pieces))
    assert {("a", "b")} == {piece.nodes for piece in report.pieces}
    assert {"a", "b"} == {piece.node for piece in report.pieces}, "both take a share of the steps"
    assert {True} == {piece.whole for piece in report.pieces}


def test_the_command(save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Text names node and verdict; JSON has the shared shape; what needs one disk is wrong usage."""
    save("n1")
    save("n2")
    monkeypatch.setattr("orz_ckpt.cluster.connect.HostsFleet", lambda hosts, **_: Disks(tmp_path, *hosts))
    monkeypatch.setattr(Disks, "flags", "--hosts n1,n2", raising=False)
    assert 0 == main(["ckpt", "verify", "/run", "--hosts", "n1,n2"])
    said = capsys.readouterr().out
    assert said.startswith("OK /run")
    assert all(word in said for word in ("n1", "n2", "file by file", "verified_apart"))
    assert 0 == main(["ckpt", "verify", "/run", "--hosts", "n1,n2", "--json"])
    document = json.loads(capsys.readouterr().out)
    assert ("ok", 5, ["n1", "n2"]) == (document["status"], document["files"], document["nodes"])
    assert {"ok"} == {piece["status"] for piece in document["pieces"]}
    for option in (("--against", str(tmp_path)), ("--tag", "x")):
        assert 2 == main(["ckpt", "verify", "/run", "--hosts", "n1,n2", *option])
        assert "collect first" in capsys.readouterr().err
