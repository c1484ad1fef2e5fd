"""ZeRO shards of a real DeepSpeed run, each rank's on its node's own disk: found, brought together, merged."""

from __future__ import annotations

import json
import math
import shutil
import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from orz_ckpt.cluster.collect.run import collect
from orz_ckpt.cluster.fleet import Here, Node, ask_here
from orz_ckpt.cluster.locate import locate
from orz_ckpt.cluster.verify import verify_nodes
from orz_ckpt.formats.torch_file import load
from orz_ckpt.merge.run import Options, merge
from orz_ckpt.sources import open_source
from orz_cli.errors import UsageError
from orz_cli.findings import Status

pytestmark = pytest.mark.component

TAG = "global_step2"


class Disks(Here):
    """Two nodes that are this machine, each of which sees another folder at `/exp`."""

    def __init__(self, folders: list[str]) -> None:
        self.nodes = (Node(name="n0"), Node(name="n1"))
        self.folders = dict(zip(("n0", "n1"), folders, strict=True))

    def ask(self, call: str, arguments: Mapping[str, Mapping[str, Any]], *, timeout_s: float = 1.0) -> Any:
        answers = {}
        for node in self.nodes:
            if node.name in arguments:
                there = json.loads(json.dumps(arguments[node.name]).replace('"/exp', f'"{self.folders[node.name]}'))
                answer = ask_here(node, call, there)
                value = json.loads(json.dumps(answer.value).replace(self.folders[node.name], "/exp"))
                answers[node.name] = replace(answer, value=value)
        return answers


@pytest.mark.parametrize("name", ["zero3", "zero2"])
def test_shards_on_two_disks_merge_like_one(small: dict[str, Any], tmp_path: Path, name: str) -> None:
    """Each disk tells its ranks and what is elsewhere; collected, they merge to the same bytes as on one disk."""
    disks = []
    for mine, other in ((0, 1), (1, 0)):
        folder = small[name].copy_to(tmp_path / f"disk{mine}")
        for other_tag in folder.iterdir():
            if other_tag.is_dir() and other_tag.name != TAG:
                shutil.rmtree(other_tag)
        for path in (folder / TAG).iterdir():
            if f"zero_pp_rank_{other}_" in path.name or (mine == 1 and path.name.startswith("mp_rank_")):
                path.unlink()
        disks.append(str(folder))

    alone = locate(Here(), disks[:1])
    (group,) = [group for group in alone.groups if group.rel == TAG]
    assert (Status.FAILED, [0], False) == (alone.status(), group.members[0].piece.ranks, group.complete)
    assert {"zero_pp_rank_1_"} == {missing.removeprefix("bf16_")[:15] for missing in group.missing}

    both = locate(Here(), disks)
    (group,) = [group for group in both.groups if group.rel == TAG]
    assert (Status.OK, [[0], [1]]) == (both.status(), [member.piece.ranks for member in group.members])

    fleet = Disks(disks)
    where = {(piece.node, piece.ranks, piece.rel) for piece in verify_nodes(fleet, "/exp").pieces if piece.ranks}
    assert {("n0", (0,), TAG), ("n1", (1,), TAG)} == where
    report = verify_nodes(fleet, "/exp")
    assert Status.OK == report.status(), report.findings
    shard = next((Path(disks[1]) / TAG).glob("*zero_pp_rank_1_*_optim_states.pt"))
    sound = shard.read_bytes()
    shard.write_bytes(sound[: len(sound) // 2] + bytes([sound[len(sound) // 2] ^ 1]) + sound[len(sound) // 2 + 1 :])
    found = verify_nodes(fleet, "/exp").findings
    broken = [entry for entry in found if entry.severity == "error"]
    assert {("record_crc_differs", "n1", f"/exp/{TAG}/{shard.name}")} == {
        (entry.code, entry.node, entry.path) for entry in broken
    }
    shard.write_bytes(sound)

    done = collect(Here(), disks, tmp_path / "home")
    assert Status.OK == done.status(), done.findings
    merged = {}
    for where, folder in (("one", small[name].checkpoint), ("collected", tmp_path / "home")):
        merge(open_source(folder, tag=TAG), tmp_path / where, Options())
        merged[where] = {path.name: path.read_bytes() for path in (tmp_path / where).glob("*.safetensors")}
    assert merged["one"]
    assert merged["one"] == merged["collected"]


def split(small: dict[str, Any], name: str, tmp_path: Path) -> list[str]:
    """Put the shards of each rank on a disk of its own; those of rank 0 have the model's file beside them."""
    disks = [str(small[name].copy_to(tmp_path / f"disk{rank}")) for rank in (0, 1)]
    for mine, other in ((0, 1), (1, 0)):
        for path in Path(disks[mine]).glob("global_step*/*"):
            if f"zero_pp_rank_{other}_" in path.name or (mine == 1 and path.name.startswith("mp_rank_")):
                path.unlink()
    return disks


@pytest.mark.parametrize("name", ["zero3", "zero2"])
def test_shards_are_brought_to_the_runs_own_folder(small: dict[str, Any], tmp_path: Path, name: str) -> None:
    """What the other node has comes to its place there, a second time nothing is left to do; a tag is no run."""
    disks = split(small, name, tmp_path)
    home = Path(disks[0])
    done = collect(Here(), disks, home)
    assert (Status.OK, True) == (done.status(), done.copied_bytes > 0), done.findings
    expected = {path.name: path.read_bytes() for path in (small[name].tag).iterdir() if path.is_file()}
    assert expected == {path.name: path.read_bytes() for path in (home / TAG).iterdir()}
    again = collect(Here(), disks, home)
    assert (Status.OK, 0) == (again.status(), again.copied_bytes), again.findings
    with pytest.raises(UsageError, match="a folder of weights, not of a run"):
        collect(Here(), [str(home / TAG)], home / TAG)
    save_file({"w": np.ones(3, "<f4")}, home / "model.safetensors")
    with pytest.raises(UsageError, match="a folder of weights, not of a run"):
        collect(Here(), disks, home)


@pytest.mark.parametrize(
    ("name", "node", "expected"),
    [("zero3", 0, Status.FAILED), ("zero3", 1, Status.FAILED), ("zero2", 0, Status.FAILED), ("zero2", 1, "open")],
)
def test_a_node_judges_what_it_knows_to_be_a_weight(
    small: dict[str, Any],
    tmp_path: Path,
    overwrite: Callable[[Path, int, bytes], None],
    name: str,
    node: int,
    expected: Status | str,
) -> None:
    """NaN in a weight fails where the node's files say that it is one; else it is left open, and why is said.

    Under ZeRO-3 each rank's files say it. Under ZeRO-2 those of rank 0 alone do, which lie on the first node.
    """
    disks = split(small, name, tmp_path)
    shard = next((Path(disks[node]) / TAG).glob("*_optim_states.pt"))
    state = load(shard).value["optimizer_state_dict"]
    weights = state["fp32_flat_groups" if name == "zero3" else "single_partition_of_fp32_groups"][0]
    overwrite(shard, weights.offset, struct.pack("<f", math.nan))

    report = verify_nodes(Disks(disks), f"/exp/{TAG}")
    (found,) = [entry for entry in report.findings if entry.code == "not_finite"]
    assert f"n{node}" == found.node
    assert ("no file here says whose elements these are" in found.message) == (expected == "open")
    assert (Status.INCONCLUSIVE if expected == "open" else Status.FAILED) == found.status
