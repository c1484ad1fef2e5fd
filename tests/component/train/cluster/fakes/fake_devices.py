"""Policy ranks and engines whose GPUs are files.

The senders are vLLM's own, over NCCL and over IPC; only what they ask of CUDA is replaced. The rest of what they do,
in which order and in which threads, is real.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fake_workers import RANK, FakeEngine, FakeModel, join
from torch import distributed
from vllm.distributed.weight_transfer import ipc_engine, nccl_engine
from vllm.distributed.weight_transfer.packed_tensor import PackedIpcChunk

from orz_train.errors import WeightTransferError

PATIENCE_S = 30.0
"""A collective that a peer never joins ends after this, so that nothing waits for ever."""


def join_gloo(rank: int, world_size: int, master_address: str, master_port: int, **settings: Any) -> None:
    join(rank, world_size, master_address, master_port, **settings)
    where = f"tcp://{master_address}:{master_port}"
    distributed.init_process_group("gloo", init_method=where, rank=rank, world_size=world_size)


def wait_for(path: Path) -> None:
    end = time.monotonic() + PATIENCE_S
    while not path.exists():
        if time.monotonic() > end:
            raise TimeoutError(f"nobody made {path.name}")
        time.sleep(0.002)


class Endpoint:
    """One rank's end of a group, in place of NCCL's: a broadcast lasts until every receiver has taken it."""

    def __init__(self, folder: Path, port: int, rank: int, world_size: int) -> None:
        folder = folder / f"group-{port}"
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.rank = rank
        self.world_size = world_size
        self.count = 0
        (folder / f"joined-{rank}").touch()
        for other in range(world_size):
            wait_for(folder / f"joined-{other}")

    def broadcast(self, tensor: torch.Tensor, src: int, stream: object = None) -> None:
        part = self.folder / f"part-{self.count}"
        self.count += 1
        if self.rank == src:
            part.with_suffix(".tmp").write_bytes(tensor.numpy().tobytes())
            part.with_suffix(".tmp").replace(part)
            for other in range(1, self.world_size):
                wait_for(self.folder / f"{part.name}-taken-{other}")
        else:
            wait_for(part)
            tensor.copy_(torch.from_numpy(np.frombuffer(part.read_bytes(), dtype=np.float32).copy()))
            (self.folder / f"{part.name}-taken-{self.rank}").touch()


def replace_cuda(folder: Path) -> None:
    """Let vLLM's senders in this process use files for what they do with CUDA."""
    rank = RANK["rank"]

    def broadcast_one_by_one(iterator: Iterator[tuple[str, torch.Tensor]], group: Endpoint, src: int, **_: Any) -> None:
        for _name, tensor in iterator:
            group.broadcast(tensor, src)

    def share_one_by_one(
        iterator: Iterator[tuple[str, torch.Tensor]], gpu_uuid: str, buffer_size_bytes: int, **_: Any
    ) -> Iterator[PackedIpcChunk]:
        buffer = folder / f"buffer-{rank}"  # each chunk overwrites the one before
        for name, tensor in iterator:
            nbytes = tensor.nbytes
            assert nbytes <= buffer_size_bytes
            buffer.write_bytes(tensor.numpy().tobytes())
            yield PackedIpcChunk([name], [list(tensor.shape)], ["float32"], [nbytes], {gpu_uuid: (str(buffer),)})
        buffer.write_bytes(b"freed")

    nccl_engine.open_trainer_endpoint = lambda info: Endpoint(folder, info.master_port, 0, info.world_size)
    nccl_engine.packed_nccl_broadcast_producer = broadcast_one_by_one
    ipc_engine.packed_ipc_producer = share_one_by_one
    torch.accelerator.current_device_index = lambda: 0
    torch.cuda.get_device_properties = lambda _index: type("Properties", (), {"uuid": f"gpu-{rank}"})
    torch.cuda.synchronize = torch.cuda.ipc_collect = lambda: None


class SendingModel(FakeModel):
    """A policy rank that sends its weights itself."""

    def __init__(self) -> None:
        super().__init__("policy")
        self.sender: Any = None

    def weights(self, group_bytes: int) -> Iterator[list[tuple[str, torch.Tensor]]]:
        """Gather with all ranks: one that doesn't come leaves the others waiting."""
        for index in range(2):
            present = torch.ones(())
            distributed.all_reduce(present)
            assert present == distributed.get_world_size()
            self.calls.append(f"gather p{index}")
            yield [(f"p{index}", self.vector[4 * index :][:4])]

    def send(self, version: int) -> None:
        self.sender.send(version)
        self.calls.append(f"sent {version}")

    def history(self) -> list[str]:
        return self.calls


class ReceivingEngine(FakeEngine):
    """An engine of one worker, on the GPU of the policy rank of its number."""

    def __init__(self, folder: Path, index: int) -> None:
        super().__init__(index)
        self.folder = folder

    def init_transfer(self, info: dict[str, Any]) -> None:
        self.log.append("init")
        if "rank_offset" in info:
            assert info["master_address"] == "127.0.0.1"
            assert info["packed"]
            self.group = Endpoint(
                self.folder, info["master_port"], info["rank_offset"] + self.index, info["world_size"]
            )

    def receive(self, info: dict[str, Any]) -> None:
        names = info["names"]
        self.log.append(",".join(names))
        for name, shape in zip(names, info["shapes"], strict=True):
            self.weights[name] = torch.empty(shape)
            if "ipc_handles" in info:
                [path] = info["ipc_handles"][f"gpu-{self.index}"]
                time.sleep(0.05 * self.index)  # a rank that ran ahead would overwrite its buffer now
                self.weights[name].copy_(torch.from_numpy(np.fromfile(path, dtype=np.float32)))
            else:
                self.group.broadcast(self.weights[name], src=0)

    def sleep(self) -> None:
        self.log.append("sleep")

    def wake(self, tags: Any = None) -> None:
        self.log.append(f"wake {tags}")

    def hold(self, seconds: float) -> None:
        """Take so long for the next message."""
        receive = self.receive

        def slowly(info: dict[str, Any]) -> None:
            self.receive = receive
            time.sleep(seconds)
            receive(info)

        self.receive = slowly


class RefusingEngine(ReceivingEngine):
    """The second engine refuses what comes, so the sender waits for it in vain."""

    def receive(self, info: dict[str, Any]) -> None:
        if self.index == 1:
            raise WeightTransferError("p1: expected shape [4], got [5]", remedy="take the same model")
        super().receive(info)


class DyingEngine(ReceivingEngine):
    """The second engine is killed when weights come."""

    def receive(self, info: dict[str, Any]) -> None:
        if self.index == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        super().receive(info)


def folder_of(config: Any) -> Path:
    return Path(config.cluster.engine_options["folder"])


def load_policy(config: Any, *, num_steps: int, checkpoint: Path | None) -> SendingModel:
    replace_cuda(folder_of(config))
    return SendingModel()


def load_engine(config: Any, *, index: int) -> ReceivingEngine:
    return ReceivingEngine(folder_of(config), index)


def load_refusing_engine(config: Any, *, index: int) -> ReceivingEngine:
    return RefusingEngine(folder_of(config), index)


def load_dying_engine(config: Any, *, index: int) -> ReceivingEngine:
    return DyingEngine(folder_of(config), index)
