"""Weights from GPU to GPU: vLLM's own trainer-side engines, over NCCL or CUDA IPC."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from torch import Tensor
from vllm.distributed.weight_transfer import (
    ParamMeta as VLLMParamMeta,
)
from vllm.distributed.weight_transfer import (
    TrainerWeightTransferEngine,
    VLLMWeightSyncClient,
    WeightSource,
    WeightTransferTrainerFactory,
)
from vllm.distributed.weight_transfer.ipc_engine import IPCTrainerInitInfo
from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo

from orz_train.backends.weights.bucket import DTYPES, ParamMeta


class GatheredWeights(WeightSource):
    """The policy's weights as vLLM's senders want them.

    Args:
        params: of the whole model, in the order of `gather`.
        gather: yields names and whole tensors on this rank's GPU; a collective of all policy ranks.
    """

    def __init__(self, params: Sequence[ParamMeta], gather: Callable[[], Iterator[tuple[str, Tensor]]]) -> None:
        self.params = params
        self.gather = gather

    def metadata(self) -> list[VLLMParamMeta]:
        """Describe what iteration yields."""
        return [VLLMParamMeta(param.name, DTYPES[param.dtype], param.shape) for param in self.params]

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        return self.gather()


def nccl_sender(
    source: WeightSource,
    engines: VLLMWeightSyncClient,
    *,
    rank: int,
    address: tuple[str, int],
    num_workers: int,
    bucket_bytes: int,
) -> TrainerWeightTransferEngine[NCCLTrainerInitInfo]:
    """Join this policy rank and the engines' workers; `send_weights()` of the result is one update, start to finish.

    Args:
        source: the weights.
        engines: calls all engines, each with its own part of the message (see `VLLMEngine.init_transfer`).
        rank: of the policy; rank 0 sends, the others take part in gathering.
        address: host and free port of rank 0, where the group meets.
        num_workers: of all engines together.
        bucket_bytes: memory of one buffer.
    """
    info = NCCLTrainerInitInfo(
        *address, world_size=1 + num_workers, packed=True, packed_buffer_size_bytes=bucket_bytes, rank=rank
    )
    return WeightTransferTrainerFactory.trainer_init(info, client=engines, source=source)


def ipc_sender(
    source: WeightSource, engines: VLLMWeightSyncClient, *, rank: int, bucket_bytes: int
) -> TrainerWeightTransferEngine[IPCTrainerInitInfo]:
    """Share this policy rank's GPU memory with the engine on the same GPU; arguments as in `nccl_sender`."""
    info = IPCTrainerInitInfo(packed=True, packed_buffer_size_bytes=bucket_bytes, rank=rank)
    return WeightTransferTrainerFactory.trainer_init(info, client=engines, source=source)
