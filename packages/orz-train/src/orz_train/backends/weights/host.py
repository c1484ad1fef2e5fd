"""Weights through the memory of the CPU: a weight-transfer engine of vLLM's interface, in every worker of an engine.

vLLM keeps weights as its kernels want them: fused, padded, on a CPU packed for oneDNN. Its layerwise reloading takes
checkpoint tensors in any portions and redoes that work for each layer as soon as the layer is complete.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path

from torch import nn
from vllm.distributed.weight_transfer import WeightTransferEngine, WeightTransferEngineFactory
from vllm.distributed.weight_transfer.base import WeightTransferInitInfo, WeightTransferUpdateInfo
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead
from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload

from orz_train.backends.weights.bucket import Bucket, unpack_bucket
from orz_train.errors import WeightTransferError

BACKEND = "orz_host"
"""The name under which vLLM knows the engine."""
WORKER_EXTENSION = f"{__name__}.HostWorker"
"""For vLLM's option `worker_extension_cls`."""


@dataclass
class HostInitInfo(WeightTransferInitInfo):
    """Nothing has to be agreed on: a bucket describes itself."""


@dataclass
class HostUpdateInfo(WeightTransferUpdateInfo):
    """One portion of an update."""

    bucket: Bucket


class HostWeightTransferEngine(WeightTransferEngine[HostInitInfo, HostUpdateInfo]):
    """Loads buckets into a worker's model."""

    init_info_cls = HostInitInfo
    update_info_cls = HostUpdateInfo

    def init_transfer_engine(self, init_info: HostInitInfo) -> None:
        """Do nothing: there is no connection."""

    def start_weight_update(self) -> None:
        """Make the model ready to take checkpoint tensors again."""
        quantized = self.model_config.quantization is not None  # then its parameters aren't the checkpoint's
        self.expected = set() if quantized else {name for name, _ in self.model.named_parameters()}
        self.loaded: set[str] = set()
        initialize_layerwise_reload(self.model)

    def receive_weights(self, update_info: HostUpdateInfo) -> None:
        """Load the parameters of one bucket."""
        loaded = self.model.load_weights(unpack_bucket(update_info.bucket))  # type: ignore[operator]  # a model of vLLM
        self.loaded |= self.expected if loaded is None else loaded  # a few models don't say

    def finish_weight_update(self) -> None:
        """Finish the layers that wait for all weights.

        Raises:
            WeightTransferError: vLLM's model has parameters that nothing was loaded into.
        """
        missing = sorted(self.expected - self.loaded)
        if missing:
            raise WeightTransferError(
                f"vLLM's {type(self.model).__name__} took no weights for {', '.join(missing)}",
                remedy="vLLM and transformers name this model's parameters differently; take a model of another family",
            )
        finalize_layerwise_reload(self.model, self.model_config)  # type: ignore[no-untyped-call]  # vLLM has no types there
        _refresh_heads(self.model)

    def shutdown(self) -> None:
        """Do nothing: there is no connection."""


class HostWorker:
    """vLLM imports this class into every worker process, which registers the engine there."""

    def unlink_shared_memory(self) -> None:
        """Remove the names of what the workers of one engine on CPUs share.

        vLLM never does. All of them have it mapped by now, and it goes when the last of them does, however it ends.
        """
        for path in Path("/dev/shm").glob(f"{os.environ['VLLM_DIST_IDENT']}-*"):  # noqa: S108  # the names are vLLM's
            path.unlink(missing_ok=True)  # each worker does it


def _refresh_heads(model: nn.Module) -> None:
    """Let output heads multiply with the weights of now.

    A head that shares its weight with the embedding gets no weights of its own, so no reload redoes its packing, and
    on a CPU it would go on multiplying with the packed copy of its first weights.
    """
    for module in model.modules():
        if isinstance(module, ParallelLMHead):
            module.quant_method.process_weights_after_loading(module)


# it calls a tied head and the tables of rotary embeddings failures; what has to arrive is checked here and in Delivery
logging.getLogger("vllm.model_executor.model_loader.reload.layerwise").addFilter(
    lambda record: "Failed to load weights" not in record.msg
)
WeightTransferEngineFactory.register_engine(BACKEND, HostWeightTransferEngine)
