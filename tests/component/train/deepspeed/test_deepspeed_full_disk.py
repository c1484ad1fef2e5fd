"""A rank whose disk is full says so, whatever torch makes of it, and saves once there is room."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from orz_train.config.schema import Config
from orz_train.testing import write_tiny_model

pytestmark = [
    pytest.mark.component,
    pytest.mark.skipif(sys.platform != "linux", reason="a limit of files' sizes, as Linux has it"),
]

SCRIPT = """
import resource, sys
from contextlib import contextmanager
from pathlib import Path
import torch
from orz_ckpt.errors import StorageFullError
from orz_train.backends.deepspeed.load import load_policy
from orz_train.backends.deepspeed.process import join, leave

folder = Path(sys.argv[1])
join(0, 1, "127.0.0.1", int(sys.argv[2]), cpu=True, timeout_s=60)
model = load_policy(torch.load(folder / "config.pt", weights_only=False), num_steps=4, checkpoint=None)

@contextmanager
def limited(nbytes):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

def refused(step, save):
    step.mkdir()
    try:
        with limited(400):
            save(step)
    except StorageFullError as error:
        print("refused", error.message)
    else:
        raise AssertionError(step)
    save(step)

def in_background(step):
    model.write_snapshot(step / "policy", step / "state")
    return model.finish_snapshot()

refused(folder / "step_000001.tmp-a", lambda step: model.save_state(step / "state"))
refused(folder / "step_000002.tmp-a", lambda step: model.save(step / "policy"))
model.snapshot()
refused(folder / "step_000003.tmp-a", in_background)
model.close()
leave()
"""
STATE = "state/policy-rank-0-of-1.pt"


def test_past_the_largest_file(tmp_path: Path) -> None:
    """At once and in the background, state and weights: the error has the number and the file, another try succeeds."""
    config = Config.model_validate(
        {
            "name": "test",
            "steps": 4,
            "prompts_per_step": 4,
            "samples_per_prompt": 2,
            "data": {"source": "unused:unused"},
            "generation": {"max_response_tokens": 12},
            "policy": {"model": str(write_tiny_model(tmp_path / "model")), "optimizer": {"lr": 1e-3}},
            "packing": {"max_tokens_per_row": 64},
            "algorithm": "grpo",
            "cluster": {"num_gpus": 0, "zero_stage": 2},
        }
    )
    torch.save(config, tmp_path / "config.pt")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, tmp_path, str(port)],
        env=os.environ | {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert 0 == done.returncode, done.stderr[-3000:]
    refused = [line.removeprefix("refused ") for line in done.stdout.splitlines() if line.startswith("refused ")]
    for number, line in enumerate(refused, start=1):
        assert line.startswith(f"{tmp_path / f'step_00000{number}'} was not saved on "), line
        assert "EFBIG: " in line
    assert [True, False, True] == [f"File too large: {STATE}. " in line for line in refused]
    assert [STATE] == [str(path.relative_to(path.parents[1])) for path in tmp_path.glob("step_000001.tmp-a/*/*")]
    for number in (2, 3):
        assert (tmp_path / f"step_00000{number}.tmp-a" / "policy" / "model.safetensors").stat().st_size > 400
