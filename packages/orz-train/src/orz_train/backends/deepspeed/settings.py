"""What DeepSpeed is told."""

from __future__ import annotations

from typing import Any

from orz_train.config.cluster import Cluster
from orz_train.config.training import TrainedModel

WEIGHTS_SHARDED = 3
"""The ZeRO stage from which on no rank holds whole weights."""
MAX_BUCKET_ELEMENTS = 50_000_000
"""Gradient elements that ZeRO reduces at a time."""


def training_settings(
    settings: TrainedModel, cluster: Cluster, *, num_elements: int, longest_vector: int
) -> dict[str, Any]:
    """Return DeepSpeed's configuration for a model in training.

    Args:
        settings: of the model.
        cluster: stage and offload.
        num_elements: of all parameters.
        longest_vector: elements of the largest bias or norm. ZeRO-3 shards what is larger; vectors stay whole, as
            to gather them would take longer than to use them.
    """
    bf16 = settings.dtype == "bfloat16"
    stage = cluster.zero_stage
    bucket = min(num_elements, MAX_BUCKET_ELEMENTS)
    zero: dict[str, Any] = {
        "stage": stage,
        "reduce_bucket_size": bucket,
        "allgather_bucket_size": bucket,
        "overlap_comm": stage in {2, 3} and cluster.num_gpus > 0,  # the stages that reduce during the backward pass
        "contiguous_gradients": True,
        "stage3_param_persistence_threshold": longest_vector,
    }
    on_cpu = {"device": "cpu", "pin_memory": cluster.num_gpus > 0}
    if cluster.offload != "none":
        zero["offload_optimizer"] = on_cpu
    if cluster.offload == "all":
        zero["offload_param"] = on_cpu
    config: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,  # step() ends an update, after however many rows
        "gradient_clipping": 0.0 if clips_itself(settings, cluster) else settings.optimizer.max_grad_norm,
        "bf16": {"enabled": bf16, "check_grad_overflow": True},
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "communication_data_type": "fp32",
        "steps_per_print": None,
    }
    if bf16 and stage > 0:  # without ZeRO, DeepSpeed has no optimizer that adds up in more bits, so no run does that
        config["data_types"] = {"grad_accum_dtype": "fp32"}
    return config


def clips_itself(settings: TrainedModel, cluster: Cluster) -> bool:
    """Say whether our optimizer clips and guards: without ZeRO in float32, DeepSpeed hands it the plain gradient."""
    return cluster.zero_stage == 0 and settings.dtype == "float32"


def frozen_settings(cluster: Cluster, *, dtype: str, longest_vector: int) -> dict[str, Any]:
    """Return DeepSpeed's configuration for a frozen model under ZeRO-3."""
    zero: dict[str, Any] = {"stage": WEIGHTS_SHARDED, "stage3_param_persistence_threshold": longest_vector}
    if cluster.offload == "all" or (cluster.num_gpus > 0 and cluster.layout == "colocated"):
        zero["offload_param"] = {"device": "cpu", "pin_memory": cluster.num_gpus > 0}
    return {
        "train_micro_batch_size_per_gpu": 1,
        "bf16": {"enabled": dtype == "bfloat16"},
        "zero_optimization": zero,
        "steps_per_print": None,
    }
