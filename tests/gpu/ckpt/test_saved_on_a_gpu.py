"""Checkpoints whose tensors were on an NVIDIA GPU when they were saved: verified, and merged bit for bit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from orz_ckpt.merge.run import Options, merge
from orz_ckpt.sources import open_source
from orz_ckpt.verify import verify
from orz_cli.findings import Status

pytestmark = [
    pytest.mark.component,
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs 1 NVIDIA GPU and the CUDA lock"),
]

SAVES = Path(__file__).parent / "gpu_saves.py"
CASES = ("zero0", "zero1", "zero2", "zero3", "fsdp2", "dcp", "dcp_asynchronous", "torch_zip", "torch_legacy")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    subprocess.run([sys.executable, SAVES, folder], check=True)
    return folder


@pytest.mark.parametrize("case", CASES)
def test_weights_that_were_on_a_gpu_are_verified_and_merged_bit_for_bit(saved: Path, tmp_path: Path, case: str) -> None:
    """DeepSpeed's weights are compared as fp32, in which it trains; those of others in their own type."""
    folder = saved / case
    dtype = "F32" if case.startswith("zero") else "keep"
    source = open_source(folder, dtype=dtype)
    merged = merge(source, tmp_path / "out", Options(dtype=dtype))
    expected = {
        name: value.float() if dtype == "F32" and value.is_floating_point() else value
        for name, value in load_file(f"{folder}.safetensors").items()
    }
    got = load_file(tmp_path / "out" / "model.safetensors")

    assert verify(folder).status() is Status.OK
    assert merged.written
    assert expected.keys() - source.aliases.keys() <= got.keys()
    for name in expected.keys() & got.keys():
        assert got[name].dtype == expected[name].dtype, name
        assert torch.equal(got[name].flatten().view(torch.uint8), expected[name].flatten().view(torch.uint8)), name
    assert verify(tmp_path / "out").status() is Status.OK
