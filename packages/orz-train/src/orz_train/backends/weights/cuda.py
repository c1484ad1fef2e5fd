"""Weights from GPU to GPU: vLLM's own trainer-side engines, over NCCL or CUDA IPC.

Tested without a GPU is everything but the bytes' own way. On one GPU a tiny model in float32 has gone it over CUDA IPC,
and engine and policy agreed afterwards; nothing has gone it over NCCL.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Literal, Protocol

import torch
from torch import Tensor
from vllm.distributed.weight_transfer import (
    ParamMeta as VLLMParamMeta,
)
from vllm.distributed.weight_transfer import (
    VLLMWeightSyncClient,
    WeightSource,
    WeightTransferTrainerFactory,
)
from vllm.distributed.weight_transfer.base import TrainerInitInfo
from vllm.distributed.weight_transfer.ipc_engine import IPCTrainerInitInfo
from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo

from orz_train.backends.weights.bucket import DTYPES, ParamMeta
from orz_train.backends.weights.sender import WeightSender


class Engines(VLLMWeightSyncClient, Protocol):
    """Calls all engines; each finds its own part of a message (see `VLLMEngine.init_transfer`)."""

    version: int
    """Of the weights that are sent next."""


class SendingPolicy(Protocol):
    """One rank of the policy."""

    sender: WeightSender | None

    def params(self) -> list[ParamMeta]:
        """Describe the parameters."""
        ...

    def weights(self, group_bytes: int) -> Iterator[list[tuple[str, Tensor]]]:
        """Yield them whole, in that order, in groups that may be emptied; a collective of all ranks."""
        ...


class GatheredWeights(WeightSource):
    """The policy's weights as vLLM's senders want them.

    A sender may copy tensors in streams of its own, each for a part of what was gathered at once. So the device has
    finished a group before the first of its tensors is handed out, and doesn't take the memory of a tensor for
    something else before the stream that it was handed to is done with it.

    Args:
        policy: this rank's.
        group_bytes: gathered at once.
    """

    def __init__(self, policy: SendingPolicy, *, group_bytes: int) -> None:
        self.policy = policy
        self.group_bytes = group_bytes

    def metadata(self) -> list[VLLMParamMeta]:
        """Describe what iteration yields."""
        return [VLLMParamMeta(param.name, DTYPES[param.dtype], param.shape) for param in self.policy.params()]

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        for group in self.policy.weights(self.group_bytes):
            if any(tensor.is_cuda for _, tensor in group):
                torch.cuda.synchronize()
            group.reverse()
            while group:  # nothing is kept beside the next group
                name, tensor = group.pop()
                if tensor.is_cuda:
                    tensor.record_stream(torch.cuda.current_stream())
                yield name, tensor


class VLLMSender:
    """One policy rank's end of the connection. Made on all ranks at once; rank 0 calls the engines.

    Args:
        policy: this rank's.
        engines: all of the run.
        info: chooses vLLM's engine.
        group_bytes: gathered at once.
    """

    def __init__(self, policy: SendingPolicy, engines: Engines, info: TrainerInitInfo, *, group_bytes: int) -> None:
        self.engines = engines
        source = GatheredWeights(policy, group_bytes=group_bytes)
        self.engine = WeightTransferTrainerFactory.trainer_init(info, client=engines, source=source)

    def send(self, version: int) -> None:
        """Make one update, start to finish; on all ranks at once."""
        self.engines.version = version
        self.engine.send_weights()


def connect(
    policy: SendingPolicy,
    *,
    transfer: Literal["nccl", "ipc"],
    engines: Engines,
    rank: int,
    address: str,
    num_workers: int,
    bucket_bytes: int,
) -> None:
    """Give a policy rank its sender; on all ranks at once.

    Over NCCL rank 0 sends to all workers of the engines, and the other ranks take part in gathering. Over IPC each
    rank shares its GPU's memory with the engine on the same GPU.

    Args:
        policy: this rank's; gets the sender.
        transfer: the way.
        engines: all of the run.
        rank: of the policy.
        address: of rank 0's node, where the NCCL group meets.
        num_workers: of all engines together.
        bucket_bytes: that travel at a time, at least those of the largest parameter; the way takes twice as much.
    """
    with ExitStack() as stack:
        info: TrainerInitInfo
        if transfer == "nccl":  # it packs into two buffers in turn
            port = stack.enter_context(reserved_port(address)) if rank == 0 else 0
            info = NCCLTrainerInitInfo(
                address, port, 1 + num_workers, packed_buffer_size_bytes=-(-bucket_bytes // 2), rank=rank
            )
        else:
            info = IPCTrainerInitInfo(packed=True, packed_buffer_size_bytes=bucket_bytes, rank=rank)
        policy.sender = VLLMSender(policy, engines, info, group_bytes=bucket_bytes)


@contextmanager
def reserved_port(address: str) -> Iterator[int]:
    """Keep a port of `address` from being given to others; vLLM, which wants its number, can still listen there.

    Linux lets two sockets with SO_REUSEADDR have one port as long as only one of them listens, and chooses such a
    port for nobody else.
    """
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind((address, 0))
        port: int = held.getsockname()[1]
        yield port
