"""Checkpoints cut off anywhere, and headers with any wrong bit: an error, never a pass, never anything unforeseen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from safetensors.numpy import save_file

from orz_ckpt.findings import Level
from orz_ckpt.inventory import step_folder
from orz_ckpt.storage import stage
from orz_ckpt.verify import verify
from orz_cli.findings import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.property


def model(folder: Path) -> Path:
    folder.mkdir()
    tensors = {"a.weight": np.ones((2, 3), np.float32), "b.weight": np.arange(1, 4, dtype=np.float32)}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps({"architectures": ["X"]}), encoding="utf-8")
    return folder


@pytest.fixture
def step(tmp_path: Path) -> Path:
    """A committed checkpoint of a few hundred bytes of weights and a state of torch."""
    final = step_folder(tmp_path / "run", 1)
    with stage(final) as staged:
        model(staged.path / "policy")
        (staged.path / "state").mkdir()
        torch.save({"w": torch.ones(2)}, staged.path / "state" / "policy-rank-0-of-1.pt")
        staged.commit(step=1, roles={"policy": "policy"}, writer="test 1")
    assert Status.OK is verify(final).status()
    return final


NAMES = ["manifest.json", "policy/model.safetensors", "policy/config.json", "state/policy-rank-0-of-1.pt"]


@pytest.mark.parametrize("name", NAMES)
def test_every_truncation_of_a_checkpoint(name: str, step: Path) -> None:
    """Each file of a committed checkpoint, cut off at each byte, is found without reading the others' bytes."""
    data = (step / name).read_bytes()
    for length in range(len(data) - 1):  # the manifest ends with a line feed, which says nothing
        (step / name).write_bytes(data[:length])
        assert verify(step, level=Level.QUICK).status().exit_code, length


def test_every_truncation_of_a_foreign_folder(tmp_path: Path) -> None:
    """Without a manifest, too."""
    file = model(tmp_path / "model") / "model.safetensors"
    data = file.read_bytes()
    for length in range(len(data)):
        file.write_bytes(data[:length])
        assert Status.FAILED is verify(file.parent, level=Level.QUICK).status(), length


def check_bits(step: Path, bits: Callable[[int], Iterable[int]]) -> None:
    file = step / "policy" / "model.safetensors"
    data = file.read_bytes()
    for place in range(8 + int.from_bytes(data[:8], "little")):
        for bit in bits(place):
            changed = bytearray(data)
            changed[place] ^= 1 << bit
            file.write_bytes(changed)
            assert Status.FAILED is verify(step / "policy").status(), (place, bit)


def test_every_byte_of_a_header(step: Path) -> None:
    """A header with one bit wrong does not say what the manifest says, or says it in bytes that do not match."""
    check_bits(step, lambda place: [place * 5 % 8])


@pytest.mark.full
def test_every_bit_of_a_header(step: Path) -> None:
    """Each bit of each byte."""
    check_bits(step, lambda _: range(8))
