"""Real DeepSpeed checkpoints, merged: the weights of the live engine, kept or rounded, as safetensors reads them."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors import safe_open

from orz_ckpt.merge.run import Options, merge
from orz_ckpt.sources import open_source
from orz_ckpt.verify import verify
from orz_cli.findings import Status

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.component

SMALL = ("zero2", "zero2-older", "zero2-aligned", "zero2-empty", "zero3", "zero3-nodes", "zero1", "zero1-bf16", "zero0")
TORCH = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16, "I64": torch.int64, "BOOL": torch.bool}


def live(played: Any) -> dict[str, torch.Tensor]:
    """Return the masters of the live engine, under every name."""
    found = {}
    for name, (dtype, shape, data) in played.engine("masters").items():
        empty = torch.empty(shape, dtype=TORCH[dtype])
        found[name] = torch.frombuffer(bytearray(data), dtype=TORCH[dtype]).reshape(shape) if data else empty
    return found


def written(out: Path) -> dict[str, torch.Tensor]:
    tensors = {}
    for file in out.glob("*.safetensors"):
        with safe_open(file, "pt") as opened:
            tensors |= {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  not a mapping
    return tensors


@pytest.mark.parametrize("dtype", ["keep", "F32", "BF16", "F16"])
@pytest.mark.parametrize("name", SMALL)
def test_merged_weights_are_those_of_the_live_engine(
    small: dict[str, Any], tmp_path: Path, name: str, dtype: str
) -> None:
    """Every tensor has the bits of the engine's master, rounded by torch where a type was asked for; ties are out."""
    source = open_source(small[name].checkpoint, tag="global_step2", dtype=dtype)
    merged = merge(source, tmp_path / "out", Options(dtype=dtype, max_shard_bytes=700))
    expected = live(small[name])
    got = written(tmp_path / "out")

    assert merged.written
    assert expected.keys() - source.aliases.keys() == got.keys()
    for key, tensor in got.items():
        master = expected[key]
        rounded = master.to(TORCH[dtype]) if dtype != "keep" and master.is_floating_point() else master
        assert (rounded.dtype, rounded.shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(rounded, tensor)
    report = verify(tmp_path / "out")
    empty = any(tensor.shape and not tensor.numel() for tensor in got.values())
    assert (Status.FAILED if empty else Status.OK) is report.status()


@pytest.mark.parametrize("name", ["zero2", "zero3"])
def test_state_of_a_client_that_leads_back_to_itself(name: str, broken: Callable[[str], Path], tmp_path: Path) -> None:
    """Settings whose parts know the whole, as those of omegaconf do, hinder nothing: they are no weights."""
    tag = broken(name) / "global_step2"
    settings = argparse.Namespace(lr=1e-4)
    settings.parts = [argparse.Namespace(parent=settings)]
    before = merge(open_source(tag), tmp_path / "before", Options())
    for file in tag.glob("*model_states.pt"):
        torch.save(torch.load(file, weights_only=False) | {"args": settings}, file)
    after = merge(open_source(tag), tmp_path / "after", Options())

    assert before.written
    assert after.written
    assert Status.OK is verify(tag).status()
    first, second = (written(tmp_path / out) for out in ("before", "after"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
