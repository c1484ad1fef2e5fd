"""What an engine is told: a configuration in, arguments of `vllm.LLM` out. This module doesn't import vLLM."""

from __future__ import annotations

from typing import Any

from orz_train.config.schema import Config
from orz_train.errors import ConfigError

MAX_TEMPERATURE = 2.0
"""vLLM takes no higher one."""
_OURS = "orz-train depends on its value; there is no setting for it"
OWNED = {
    "model": "policy.model",
    "tokenizer": "policy.model",
    "revision": "policy.model, with the folder of that revision",
    "tokenizer_revision": "policy.model, with the folder of that revision",
    "trust_remote_code": "policy.trust_remote_code",
    "dtype": "policy.dtype",
    "seed": "seed",
    "max_model_len": "data.max_prompt_tokens and generation.max_response_tokens",
    "max_num_seqs": "generation.max_sequences",
    "tensor_parallel_size": "cluster.tensor_parallel",
    "pipeline_parallel_size": "cluster.tensor_parallel",
    "prefill_context_parallel_size": "cluster.tensor_parallel",
    "decode_context_parallel_size": "cluster.tensor_parallel",
    "data_parallel_size": "cluster.num_engines",
    "gpu_memory_utilization": "cluster.gpu_memory_utilization",
    "kv_cache_memory_bytes": "cluster.kv_cache_gib or cluster.gpu_memory_utilization",
    "enable_sleep_mode": "cluster.layout",
    "enable_chunked_prefill": "",
    "weight_transfer_config": "cluster.weights.transfer",
    "additional_config": "",
    "distributed_executor_backend": "",
    "generation_config": "",
    "load_format": "",
    "logits_processors": "",
    "logprobs_mode": "",
    "skip_tokenizer_init": "",
    "worker_cls": "",
    "worker_extension_cls": "",
}
"""Arguments that `cluster.engine_options` can't set, and the setting to use instead, if there is one."""


def transfer_backend(config: Config) -> str:
    """Resolve `cluster.weights.transfer: auto`: `host`, `nccl` or `ipc`."""
    cluster = config.cluster
    if cluster.weights.transfer != "auto":
        return cluster.weights.transfer
    if cluster.num_gpus == 0:
        return "host"
    return "ipc" if cluster.layout == "colocated" else "nccl"


def engine_options(config: Config, *, model: str) -> dict[str, Any]:
    """Return the arguments of `vllm.LLM`.

    Weights start random (`load_format: dummy`): the first update brings all of them, so whatever it misses shows.

    Args:
        config: of the run.
        model: the policy's folder.

    Raises:
        ConfigError: `cluster.engine_options` sets what another setting decides, or the temperature is too high.
    """
    cluster = config.cluster
    _check(config)
    on_cpu = cluster.num_gpus == 0
    options: dict[str, Any] = {
        "model": model,
        "trust_remote_code": config.policy.trust_remote_code,
        "dtype": config.policy.dtype,
        "seed": config.seed % 2**32,
        "load_format": "dummy",
        "max_model_len": config.data.max_prompt_tokens + config.generation.max_response_tokens,
        "max_num_seqs": config.generation.max_sequences,
        "tensor_parallel_size": cluster.tensor_parallel,
        "distributed_executor_backend": "mp" if cluster.tensor_parallel > 1 else "uni",  # never a Ray of vLLM's own
        "enforce_eager": on_cpu,
        "enable_prefix_caching": True,
        "enable_chunked_prefill": not on_cpu,  # there a prompt that is cut fails: seeds can't be wound back
        "logprobs_mode": "processed_logprobs",
        "generation_config": "vllm",  # else the model's generation_config.json changes temperature and top-p unasked
        "disable_log_stats": True,
        "enable_sleep_mode": not on_cpu and cluster.layout == "colocated",
    }
    if not on_cpu:
        options["gpu_memory_utilization"] = cluster.gpu_memory_utilization
    return options | dict(cluster.engine_options)


def _check(config: Config) -> None:
    for name in config.cluster.engine_options:
        if name in OWNED:
            setting = OWNED[name]
            raise ConfigError(
                f"cluster.engine_options.{name}: {f'{setting} decides it' if setting else _OURS}",
                remedy=f"set {setting} instead" if setting else "remove it",
            )
    for name, value in (
        ("generation.temperature", config.generation.temperature),
        ("eval.temperature", config.eval.temperature),
    ):
        if value > MAX_TEMPERATURE:
            raise ConfigError(
                f"{name}: {value} is more than the {MAX_TEMPERATURE} that vLLM takes",
                remedy=f"set {name} to {MAX_TEMPERATURE} or lower; backend: local takes any",
            )
