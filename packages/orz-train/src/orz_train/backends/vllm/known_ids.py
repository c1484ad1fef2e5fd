"""Ids beyond the tokenizer's, in a vocabulary that was rounded up, have no probability."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from vllm.config import VllmConfig
from vllm.v1.sample.logits_processor import LogitsProcessor
from vllm.v1.worker.gpu.sample.logits_processor import LogitsProcessor as LogitsProcessorV2

KEY = "orz_num_ids"
"""Where in vLLM's `additional_config` the number of known ids stands."""


class KnownIds(LogitsProcessor, LogitsProcessorV2):
    """Masks the logits of unknown ids, for both of vLLM's model runners: what their interfaces differ in is ignored."""

    def __init__(self, vllm_config: VllmConfig, *_: object) -> None:
        assert isinstance(vllm_config.additional_config, dict)  # noqa: S101  # load_engine passes one
        self.num_ids: int = vllm_config.additional_config[KEY]

    def apply(self, logits: Tensor, *_: object) -> Tensor:
        """Mask [R, V] logits in place."""
        logits[:, self.num_ids :] = -torch.inf
        return logits

    def is_argmax_invariant(self) -> bool:
        """Say no: an unknown id may be the likeliest."""
        return False

    def update_state(self, batch_update: Any) -> None:
        """Do nothing: all requests are alike."""
