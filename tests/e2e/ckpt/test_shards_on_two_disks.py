"""ZeRO-3 on two nodes: DeepSpeed's two ranks train there, and each writes its shards to its own node's disk."""

from __future__ import annotations

import hashlib
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from safetensors.numpy import load_file

pytestmark = pytest.mark.e2e

RANKS = Path(__file__).parents[2] / "component/ckpt/deepspeed/deepspeed_ranks.py"
HEAD_ADDRESS, PORT = "10.99.0.1", 29500
TAG = "global_step2"
CASE = {
    "name": "zero3",
    "stage": 3,
    "tied": True,
    "dtype": "bfloat16",
    "nodes": True,
    "config": {"checkpoint": {"checkpoint_serialization": False, "use_node_local_storage": True}},
}


@dataclass(frozen=True)
class Saved:
    """Two saves of one engine."""

    apart: Path
    """The same path on both nodes; on each one's disk the shards of its own rank."""
    together: Path
    """On a disk that both see, the shards of both."""
    masters: Path
    """The fp32 weights of the engine itself."""


@pytest.fixture(scope="module")
def saved(cluster, disks, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """Train on both nodes and save twice."""
    folder, apart = tmp_path_factory.mktemp("zero"), disks.checkpoints / "zero"
    (folder / "cases.json").write_text(json.dumps([CASE]))
    (folder / CASE["name"]).mkdir()
    nodes = (cluster.head, cluster.other)
    for rank, node in enumerate(nodes):
        node.check("mkdir", apart)
        (folder / CASE["name"] / f"node-{rank}").symlink_to(apart)  # leads each rank to its own node's disk
    settings = ("OMP_NUM_THREADS=1", "DS_ACCELERATOR=cpu", "GLOO_SOCKET_IFNAME=eth0", f"HOME={folder}")
    python = ("env", *settings, sys.executable, RANKS)

    def play(rank: int):
        return nodes[rank].run(*python, str(rank), "2", str(PORT), folder, HEAD_ADDRESS, timeout_s=300.0)

    with ThreadPoolExecutor(2) as pool:
        for done in pool.map(play, range(2)):
            assert 0 == done.code, done
    played = folder / CASE["name"]
    return Saved(apart=apart, together=played / "checkpoint", masters=played / "masters.safetensors")


def weights(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of weights in a folder."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.safetensors")}


def digests(cluster, folder: Path) -> list[str]:
    """Return name and SHA-256 of every file below `folder`, of each node."""
    look = ("find", folder, "-type", "f", "-exec", "sha256sum", "{}", "+")
    return [line for node in (cluster.head, cluster.other) for line in sorted(node.check(*look).splitlines())]


def test_each_disk_has_its_ranks(cluster, saved: Saved) -> None:
    """On the head alone a rank is missing; asked together, each node names its own, and nothing is damaged."""
    head = cluster.head
    alone = head.orz("ckpt", "verify", saved.apart, "--json")
    assert 1 == alone.code, alone
    found = {entry["code"]: entry["message"] for entry in json.loads(alone.stdout)["findings"]}
    assert "(rank 0); missing: rank 1" in found["ranks_missing"]

    both = head.orz("ckpt", "verify", saved.apart, "--ray", cluster.address, "--json")
    answer = json.loads(both.stdout)
    assert {("gpu-01", (0,)), ("gpu-02", (1,))} == {
        (piece["node"], tuple(piece["ranks"])) for piece in answer["pieces"] if piece["ranks"]
    }
    # Padding in a partition is memory that nobody wrote: now and then it holds a NaN, which is nobody's.
    assert [] == [entry for entry in answer["findings"] if entry["severity"] == "error"]
    assert 0 == both.code, both
    assert "verified_apart" in {entry["code"] for entry in answer["findings"]}


def test_collected_they_merge_like_one(cluster, disks, saved: Saved, tmp_path: Path) -> None:
    """Brought together they are whole, and merge to the bytes that a checkpoint on one disk gives."""
    head, home = cluster.head, disks.checkpoints / "zero home"
    before = digests(cluster, saved.apart)
    brought = head.orz("ckpt", "collect", saved.apart, "--to", home, "--ray", cluster.address)
    assert 0 == brought.code, brought
    whole = head.orz("ckpt", "verify", home)
    assert 0 == whole.code, whole
    for source, out in ((home, "collected"), (saved.together, "one")):
        merged = head.orz("ckpt", "merge", source, tmp_path / out)
        assert 0 == merged.code, merged
        verified = head.orz("ckpt", "verify", tmp_path / out, "--require-manifest")
        assert 0 == verified.code, verified
    assert weights(tmp_path / "one")
    assert weights(tmp_path / "one") == weights(tmp_path / "collected")

    masters = load_file(saved.masters)
    found = {
        name: array for path in (tmp_path / "one").glob("*.safetensors") for name, array in load_file(path).items()
    }
    assert found
    for name, array in found.items():
        assert array.tobytes() == masters[name].tobytes(), name
    assert before == digests(cluster, saved.apart), "a source is never altered"
