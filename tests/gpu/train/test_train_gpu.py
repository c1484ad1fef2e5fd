"""`orz train` on NVIDIA GPUs: the ways of the weights and the turns on a device that CPUs can't show."""

from __future__ import annotations

import json
import os
import subprocess
import sysconfig
from pathlib import Path

import pytest
import torch

from orz_monitor.records import StepRecord, read_records

pytestmark = [pytest.mark.e2e, pytest.mark.gpu, pytest.mark.cluster]

ORZ = Path(sysconfig.get_path("scripts")) / "orz"
SMALL = (
    "prompts_per_step=4",
    "samples_per_prompt=4",
    "critic.updates_per_step=2",
    "eval.every_steps=0",
    "cluster.num_ranks=1",
)
GAP = 1e-3
"""Nats: float32 on a GPU, where vLLM's kernels and torch's add up in other orders."""
GAP_BFLOAT16 = 0.1
"""Nats."""


def needs_gpus(count: int) -> pytest.MarkDecorator:
    """Skip where fewer GPUs are."""
    return pytest.mark.skipif(torch.cuda.device_count() < count, reason=f"needs {count} NVIDIA GPUs and the CUDA lock")


def train(folder: Path, *settings: str) -> list[StepRecord]:
    """Train a few steps in `folder` and return their records."""
    environment = {**os.environ, "NO_COLOR": "1", "HF_HUB_OFFLINE": "1"}
    command = [str(ORZ), "train", "quickstart", *SMALL, *settings, "--run-dir", str(folder)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert 0 == ended.returncode, ended.stderr
    records = [line.record for line in read_records(folder / "metrics.jsonl")]
    return [record for record in records if isinstance(record, StepRecord) and record.step > 0]


@needs_gpus(1)
@pytest.mark.parametrize("way", ["ipc", "host"])
def test_all_roles_share_one_gpu(tmp_path: Path, way: str) -> None:
    """Policy, critic and engine take turns; the engine holds the policy's weights at every step, whatever their way."""
    one = ("cluster.num_gpus=1", "cluster.num_engines=1", f"cluster.weights.transfer={way}")
    records = train(tmp_path / "run", "steps=3", *one)
    assert [1, 2, 3] == [record.step for record in records]
    assert all(record.metrics["mismatch/logprob_abs_mean"] < GAP for record in records)
    assert "on cuda" in json.loads((tmp_path / "run" / "environment.json").read_text())["backends"]["generator"]


@needs_gpus(1)
def test_all_roles_share_one_gpu_in_bfloat16(tmp_path: Path) -> None:
    """The same in bfloat16, where sampler and trainer are apart by its rounding."""
    one = ("cluster.num_gpus=1", "cluster.num_engines=1", "policy.dtype=bfloat16", "critic.dtype=bfloat16")
    records = train(tmp_path / "run", "steps=3", *one)
    assert [1, 2, 3] == [record.step for record in records]
    assert all(record.metrics["mismatch/logprob_abs_mean"] < GAP_BFLOAT16 for record in records)
    assert (
        "bfloat16 on cuda" in json.loads((tmp_path / "run" / "environment.json").read_text())["backends"]["generator"]
    )


@needs_gpus(1)
def test_a_resume_goes_on(tmp_path: Path) -> None:
    """Weights and optimizer state come back from the checkpoint; the step after it follows."""
    one = ("cluster.num_gpus=1", "cluster.num_engines=1", "checkpoint.every_steps=2")
    train(tmp_path / "run", "steps=2", *one)
    records = train(tmp_path / "run", "steps=4", *one)
    assert [1, 2, 3, 4] == [record.step for record in records]
    assert all(record.metrics["mismatch/logprob_abs_mean"] < GAP for record in records)


@needs_gpus(3)
def test_roles_on_gpus_of_their_own(tmp_path: Path) -> None:
    """Split: weights go over NCCL from the policy's GPU to the engine's, while the critic has a third."""
    split = ("cluster.num_gpus=3", "cluster.layout=split", "cluster.policy_gpus=1", "cluster.critic_gpus=1")
    records = train(tmp_path / "run", "steps=3", *split, "cluster.num_engines=1")
    assert all(record.metrics["mismatch/logprob_abs_mean"] < GAP for record in records)
