"""ZeRO shards of a real DeepSpeed run, each rank's on its node's own disk: found, brought together, merged."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from orz_ckpt.cluster.collect import collect
from orz_ckpt.cluster.fleet import Here
from orz_ckpt.cluster.locate import locate
from orz_ckpt.merge.run import Options, merge
from orz_ckpt.sources import open_source
from orz_cli.findings import Status

pytestmark = pytest.mark.component

TAG = "global_step2"


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

    done = collect(Here(), disks, tmp_path / "home")
    assert Status.OK == done.status(), done.findings
    merged = {}
    for where, folder in (("one", small[name].checkpoint), ("collected", tmp_path / "home")):
        merge(open_source(folder, tag=TAG), tmp_path / where, Options())
        merged[where] = {path.name: path.read_bytes() for path in (tmp_path / where).glob("*.safetensors")}
    assert merged["one"]
    assert merged["one"] == merged["collected"]
