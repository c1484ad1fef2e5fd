"""`orz train` with DeepSpeed's ZeRO-3 and vLLM across two nodes that have disks of their own under one path."""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.cluster, pytest.mark.full]

TIMEOUT_S = 900.0
SMALL = (
    "cluster.num_ranks=2",
    "cluster.num_engines=1",
    "cluster.zero_stage=3",
    "cluster.cpus_per_worker=1",
    "prompts_per_step=4",
    "samples_per_prompt=4",
    "eval.every_steps=0",
    "checkpoint.every_steps=2",
    "checkpoint.storage=per_node",
)


@pytest.mark.parametrize("asynchronous", ["false", "true"])
def test_each_node_keeps_its_part_and_goes_on_from_it(training_nodes, tmp_path: Path, asynchronous: str) -> None:
    """Saved, told apart, brought together and verified; a resume reads each node's own state."""
    head, address = training_nodes.head, training_nodes.address
    orz = functools.partial(head.run, sys.executable, "-m", "orz_cli", timeout_s=TIMEOUT_S)
    run, home = tmp_path / "ckpt" / "run", tmp_path / "ckpt" / "home"

    def train(steps: int) -> None:
        saving = f"checkpoint.asynchronous={asynchronous}"
        settings = (*SMALL, saving, f"cluster.address={address}", f"steps={steps}")
        done = orz("train", "quickstart-grpo", *settings, "--run-dir", run)
        assert 0 == done.code, f"{done.stdout}\n{done.stderr}"

    train(2)
    step = run / "checkpoints" / "step_000002"
    meta = json.loads(head.check("cat", step / "manifest.json"))["meta"]
    assert "state/policy-rank-0-of-2.pt" in meta["nodes"]["gpu-01"]
    assert "state/policy-rank-1-of-2.pt" in meta["nodes"]["gpu-02"]
    assert 0 != head.run("test", "-e", step / "state" / "policy-rank-1-of-2.pt").code

    half = orz("ckpt", "verify", run)
    assert 1 == half.code, half
    assert "gpu-02" in half.stdout
    brought = orz("ckpt", "collect", run, "--to", home, "--ray", address)
    assert 0 == brought.code, brought
    whole = orz("ckpt", "verify", home, "--require-manifest")
    assert 0 == whole.code, whole

    train(4)
    events = [json.loads(line) for line in head.check("cat", run / "metrics.jsonl").splitlines()]
    assert [(2, "checkpoints/step_000002")] == [
        (event["step"], event["data"]["path"]) for event in events if event.get("event") == "resume"
    ]
    assert [1, 2, 3, 4] == [event["step"] for event in events if event["kind"] == "step" and event["step"]]
