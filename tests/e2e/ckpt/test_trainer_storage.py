"""The trainer's preflight and saves on two nodes with disks of their own under one path.

The rank is a stand-in (`trainer_storage.py`); preflight, store, commit and the nodes that are asked are the trainer's.
"""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

DRIVER = Path(__file__).with_name("trainer_storage.py")
OTHER_ADDRESS = "10.99.0.2"


def test_the_story_of_the_lost_weights(cluster, disks) -> None:
    """Refused before training; with the check off kept and told; located, collected, verified."""
    head, run = cluster.head, disks.checkpoints / "trained"

    def driver(*arguments: str):
        return head.run(sys.executable, DRIVER, cluster.address, OTHER_ADDRESS, run, *arguments)

    refused = driver("check")
    assert 1 == refused.code, refused
    assert "isn't fit for checkpoints as checkpoint.storage=shared says" in refused.stderr
    assert "PER-NODE: 2 disks under one path" in refused.stderr
    for node in ("gpu-01", "gpu-02"):
        assert f"{node}: " in refused.stderr
    assert 0 == driver("check", "storage=per_node").code
    assert 0 == driver("check", "preflight=off").code

    apart = driver("save", "preflight=off")
    assert 1 == apart.code, apart
    assert "step 3 was not committed" in apart.stderr
    assert "gpu-02 wrote 4 files, " in apart.stderr
    lost = head.orz("ckpt", "verify", run)
    assert 1 == lost.code, lost
    assert "were written by node gpu-02" in lost.stdout
    found = head.orz("ckpt", "locate", run, "--ray", cluster.address, "--json")
    assert 0 == found.code, found
    brought = head.orz(*shlex.split(json.loads(found.stdout)["command"])[1:])
    assert 0 == brought.code, brought
    whole = head.orz("ckpt", "verify", run, "--require-manifest")
    assert 0 == whole.code, whole


def test_a_disk_for_each_node(cluster, disks) -> None:
    """Committed with the manifest on the driver's disk; collected elsewhere it is one whole checkpoint."""
    head, run, home = cluster.head, disks.checkpoints / "apart", disks.checkpoints / "home"
    saved = head.run(sys.executable, DRIVER, cluster.address, OTHER_ADDRESS, run, "save", "storage=per_node", "keep=1")
    assert 0 == saved.code, saved
    step = run / "checkpoints" / "step_000003"
    meta = json.loads(head.check("cat", step / "manifest.json"))["meta"]
    assert ["state/trainer.json"] == meta["nodes"]["gpu-01"]
    assert "state/policy-rank-0-of-1.pt" in meta["nodes"]["gpu-02"]
    record = json.loads(cluster.other.check("cat", step / ".orz" / "manifest-gpu-02.json"))
    assert str(step) == record["meta"]["path"]
    assert 0 != cluster.other.run("test", "-e", step / "manifest.json").code
    brought = head.orz("ckpt", "collect", run, "--to", home, "--ray", cluster.address)
    assert 0 == brought.code, brought
    whole = head.orz("ckpt", "verify", home, "--require-manifest")
    assert 0 == whole.code, whole
