"""Real DeepSpeed ranks that save tiny models, and what comes of their checkpoints."""

from __future__ import annotations

import json
import math
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

from orz_ckpt.formats.safetensors import read_header
from orz_ckpt.tensors.dtypes import DTYPE_BITS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from orz_ckpt.tensors.source import Source, SourceTensor

RANKS = Path(__file__).parent / "deepspeed_ranks.py"
DEADLINE_S = 1800
Case = dict[str, Any]
"""See deepspeed_ranks.py."""
Numbers = tuple[str, tuple[int, ...], bytes]
"""A tensor's type, shape and bytes."""

BF16, FP32_SUMS = {"dtype": "bfloat16"}, {"config": {"data_types": {"grad_accum_dtype": "fp32"}}}
SMALL: list[Case] = [
    {
        "name": "zero2",
        "stage": 2,
        "tied": True,
        "frozen": True,
        "again": True,
        "export": True,
        "universal": True,
        **BF16,
    },
    {"name": "zero2-older", "stage": 2, "older": True},
    {"name": "zero2-aligned", "stage": 2, "groups": 2, "zero": {"parameter_alignment": True}, **BF16},
    {"name": "zero2-empty", "stage": 2, "empty": True},
    {
        "name": "zero3",
        "stage": 3,
        "tied": True,
        "frozen": True,
        "empty": True,
        "groups": 2,
        "zero": {"sub_group_size": 40},
        "swapped": True,
        "universal": True,
        **BF16,
    },
    {
        "name": "zero3-nodes",
        "stage": 3,
        "tied": True,
        "nodes": True,
        "config": {"checkpoint": {"checkpoint_serialization": False, "use_node_local_storage": True}},
    },
    {
        "name": "zero1",
        "stage": 1,
        "frozen": True,
        "groups": 2,
        "zero": {"round_robin_gradients": True},
        "universal": True,
    },
    {"name": "zero1-bf16", "stage": 1, "tied": True, "frozen": True, **BF16, **FP32_SUMS},
    {"name": "zero0", "stage": 0, "tied": True, "frozen": True, "groups": 2, **BF16},
    # what these leave behind in a process, ZeRO stumbles over
    {"name": "experts", "layout": "experts", "stage": 2},
    {"name": "experts0", "layout": "experts", "stage": 0},
    {"name": "pipeline", "layout": "pipeline", "stage": 1},
]
"""What every test run plays, on two ranks."""


@dataclass(frozen=True)
class Played:
    """What a case left behind."""

    folder: Path

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint"

    @property
    def tag(self) -> Path:
        return self.checkpoint / "global_step2"

    @property
    def facts(self) -> dict[str, str]:
        return json.loads((self.folder / "facts.json").read_text())

    def engine(self, what: str) -> dict[str, Numbers]:
        """Return the `masters` or the `weights` of the live engine, or what the `tool` made of the checkpoint."""
        file = self.folder / f"{what}.safetensors"
        data = file.read_bytes()
        return {
            tensor.name: (tensor.dtype, tensor.shape, data[tensor.offset : tensor.offset + tensor.nbytes])
            for tensor in read_header(file).tensors
        }

    def said(self, what: str) -> str:
        """Return the tool's error; empty where it had none."""
        file = self.folder / f"{what}.txt"
        return file.read_text() if file.exists() else ""

    def copy_to(self, folder: Path) -> Path:
        """Copy the checkpoint, to break it."""
        shutil.copytree(self.checkpoint, folder)
        return folder


def numbers(source: Source) -> dict[str, Numbers]:
    """Return all tensors of a source under all their names, put together with numpy alone."""
    found = {name: (tensor.dtype, tensor.shape, elements(tensor)) for name, tensor in source.tensors.items()}
    return found | {alias: found[name] for alias, name in source.aliases.items()}


def elements(tensor: SourceTensor) -> bytes:
    """Return a tensor's bytes in C order; each element has to be in exactly one piece."""
    itemsize = DTYPE_BITS[tensor.dtype] // 8
    whole = np.zeros(tensor.grid, dtype=f"<u{itemsize}")
    times = np.zeros(tensor.grid, dtype=int)
    for piece in tensor.pieces:
        block = piece.block
        assert tensor.dtype == block.dtype
        data = np.fromfile(block.path, dtype=np.uint8, offset=block.offset)
        flat = data[: len(data) // itemsize * itemsize].view(f"<u{itemsize}")
        strides = tuple(stride * itemsize for stride in block.strides)
        place = tuple(slice(start, start + size) for start, size in zip(piece.start, block.shape, strict=True))
        whole[place] = as_strided(flat, shape=block.shape, strides=strides)
        times[place] += 1
    assert math.prod(tensor.shape) == math.prod(tensor.grid)
    assert (times == 1).all(), tensor.name
    return whole.tobytes()


def play_on(num_ranks: int, cases: Sequence[Case], folder: Path) -> dict[str, Played]:
    """Play cases on real ranks."""
    (folder / "cases.json").write_text(json.dumps(list(cases)))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = [_start(rank, num_ranks, port, folder) for rank in range(num_ranks)]
    try:
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline and all(rank.poll() in {None, 0} for rank in ranks):
            if all(rank.poll() == 0 for rank in ranks):
                break
            time.sleep(0.1)
    finally:
        ended = [rank.poll() for rank in ranks]
        for rank in ranks:
            rank.kill()
            rank.wait()
    logs = "\n".join(f"rank {rank}:\n{_log(folder, rank).read_text()[-3000:]}" for rank in range(num_ranks))
    assert [0] * num_ranks == ended, logs
    return {case["name"]: Played(folder / case["name"]) for case in cases}


def _start(rank: int, num_ranks: int, port: int, folder: Path) -> subprocess.Popen[bytes]:
    """Start a rank in an environment without a compiler."""
    with _log(folder, rank).open("wb") as stream:
        return subprocess.Popen(
            [sys.executable, str(RANKS), str(rank), str(num_ranks), str(port), str(folder)],
            stdout=stream,
            stderr=subprocess.STDOUT,
            env={"PATH": "/nowhere", "HOME": str(folder), "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"},
        )


def _log(folder: Path, rank: int) -> Path:
    return folder / f"rank-{rank}.log"


@pytest.fixture(scope="session")
def play(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int, Sequence[Case]], dict[str, Played]]:
    """The function that plays cases on so many ranks."""

    def on(num_ranks: int, cases: Sequence[Case]) -> dict[str, Played]:
        return play_on(num_ranks, cases, tmp_path_factory.mktemp(f"deepspeed-{num_ranks}"))

    return on


@pytest.fixture(scope="session")
def small(play: Callable[[int, Sequence[Case]], dict[str, Played]]) -> dict[str, Played]:
    """What every test run plays, by name."""
    return play(2, SMALL)


@pytest.fixture
def broken(small: dict[str, Played], tmp_path: Path) -> Callable[[str], Path]:
    """The function that copies a case's checkpoint, to break it."""

    def copy(name: str) -> Path:
        return small[name].copy_to(tmp_path / name)

    return copy


@pytest.fixture(scope="session")
def tensors() -> Callable[[Source], dict[str, Numbers]]:
    """The function that puts the tensors of a source together."""
    return numbers
