"""The story of the lost weights, on two Ray nodes with disks of their own under one path.

`stand_in_trainer.py` saves through the trainer's protocol in its place, within seconds; the trainer itself is in
`test_trainer_two_nodes.py`.
"""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e


def digests(node, folder: Path) -> list[str]:
    """Return name and sha256 of every file below `folder` on a node."""
    return sorted(node.check("find", folder, "-type", "f", "-exec", "sha256sum", "{}", "+").splitlines())


def codes(result) -> set[str]:
    """Return the codes of a JSON answer's findings that are no notes."""
    return {entry["code"] for entry in json.loads(result.stdout)["findings"] if entry["severity"] != "info"}


def test_weights_on_another_disk(cluster, disks, save) -> None:
    """Preflight refuses; without it a save succeeds, and verify, locate, collect and verify bring the weights home."""
    head, ray = cluster.head, ("--ray", cluster.address)
    run = disks.checkpoints / "run one"
    there_before = head.check("ls", "-A", disks.checkpoints)

    refused = head.orz("ckpt", "preflight", run, *ray, "--bytes", "1MB", "--json")
    assert 1 == refused.code, refused
    assert {"storage_not_shared"} == codes(refused)
    said = json.loads(refused.stdout)
    assert "PER-NODE" == said["verdict"]
    assert [["gpu-01"], ["gpu-02"]] == said["domains"]
    assert there_before == head.check("ls", "-A", disks.checkpoints), "the probes are gone, and the folder with them"
    accepted = head.orz("ckpt", "preflight", run, *ray, "--expect", "per_node")
    assert 0 == accepted.code, accepted

    save(run, 10)

    lost = head.orz("ckpt", "verify", run)
    assert 1 == lost.code, lost
    assert "weights_elsewhere" in lost.stdout
    assert f"were written by node gpu-02 to {run}/checkpoints/step_000010" in lost.stdout

    there = head.orz("ckpt", "verify", run, *ray, "--json")
    assert 0 == there.code, there
    pieces = {piece["node"]: piece for piece in json.loads(there.stdout)["pieces"]}
    assert ({"gpu-01", "gpu-02"}, True) == (set(pieces), pieces["gpu-02"]["whole"])

    before = digests(cluster.other, run)
    found = head.orz("ckpt", "locate", run, *ray, "--json")
    assert 0 == found.code, found
    answer = json.loads(found.stdout)
    pieces = {piece["nodes"][0]: piece for piece in answer["pieces"]}
    assert {"gpu-01", "gpu-02"} == set(pieces)
    assert (False, True) == (pieces["gpu-01"]["complete"], pieces["gpu-02"]["complete"])
    assert f"{run}/checkpoints/step_000010" == pieces["gpu-02"]["path"]
    assert (
        f"orz ckpt collect {shlex.quote(str(run))} --to {shlex.quote(str(run))} --ray {cluster.address}"
        == (answer["command"])
    )

    brought = head.orz(*shlex.split(answer["command"])[1:])
    assert 0 == brought.code, brought
    whole = head.orz("ckpt", "verify", run, "--require-manifest", "--json")
    assert 0 == whole.code, whole
    assert before == digests(cluster.other, run), "a source is never altered"
    theirs = [line for line in before if "/policy/" in line]
    assert theirs == [line for line in digests(head, run) if "/policy/" in line]


def test_relative_path_in_home(cluster, disks, save) -> None:
    """A relative path means each process's own folder: preflight says so, and the weights come from a home folder."""
    head, ray = cluster.head, ("--ray", cluster.address)
    project = disks.checkpoints / "project"
    head.check("mkdir", "-p", project)

    refused = head.orz("ckpt", "preflight", "runs/two", *ray, "--expect", "per_node", "--json", cwd=project)
    assert (1, {"path_relative"}) == (refused.code, codes(refused))
    assert f"{disks.home}/runs/two on gpu-02" in refused.stdout

    save("runs/two", 20, cwd=project)
    assert 1 == head.orz("ckpt", "verify", "runs/two", cwd=project).code

    found = head.orz("ckpt", "locate", "runs/two", *ray, cwd=project)
    assert 0 == found.code, found
    assert f"{disks.home}/runs/two/checkpoints/step_000020" in found.stdout
    command = next(line for line in found.stdout.splitlines() if "orz ckpt collect" in line).split("next")[1]
    brought = head.orz(*shlex.split(command)[1:], cwd=project)
    assert 0 == brought.code, brought
    whole = head.orz("ckpt", "verify", "runs/two", "--require-manifest", cwd=project)
    assert 0 == whole.code, whole


def test_ranks_on_two_disks(cluster, disks) -> None:
    """Shards of FSDP, one rank on each node's own disk: verify names the ranks where they are, and a torn one there."""
    head, ray = cluster.head, ("--ray", cluster.address)
    folder = disks.checkpoints / "sharded" / "global_step_7" / "actor"
    script = (
        "import sys, torch; from pathlib import Path; folder = Path(sys.argv[1]); folder.mkdir(parents=True);"
        " torch.save({'w': torch.ones(4)}, folder / f'model_world_size_2_rank_{sys.argv[2]}.pt');"
        " torch.save({'lr_scheduler': {'last_epoch': 7}}, folder / f'extra_state_world_size_2_rank_{sys.argv[2]}.pt')"
    )
    for rank, node in enumerate((head, cluster.other)):
        node.check(sys.executable, "-c", script, folder, str(rank))
    whole = head.orz("ckpt", "verify", disks.checkpoints / "sharded", *ray, "--json")
    assert 0 == whole.code, whole
    pieces = json.loads(whole.stdout)["pieces"]
    assert {("gpu-01", 0), ("gpu-02", 1)} == {(piece["node"], *piece["ranks"]) for piece in pieces}
    cluster.other.check("sh", "-c", f"truncate -s -30 {shlex.quote(str(folder))}/model*.pt")
    torn = head.orz("ckpt", "verify", disks.checkpoints / "sharded", *ray, "--json")
    assert 1 == torn.code, torn
    assert {"gpu-02"} == {
        entry["node"] for entry in json.loads(torn.stdout)["findings"] if entry["severity"] == "error"
    }


def test_a_dead_node_is_no_pass(cluster, disks) -> None:
    """An answer without it is inconclusive, whatever the others say."""
    head, ray = cluster.head, ("--ray", cluster.address)
    with cluster.without_other(cwd=disks.home):
        run = disks.checkpoints / "run one"
        for words in (
            ("locate", run),
            ("verify", run),
            ("preflight", run, "--expect", "shared"),
            ("collect", run, "--to", disks.checkpoints / "again"),
        ):
            lost = head.orz("ckpt", *words, *ray, "--json")
            assert 3 == lost.code, lost
            assert {"node_unreachable"} <= codes(lost)
