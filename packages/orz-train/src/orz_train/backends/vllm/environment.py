"""Environment variables that vLLM reads when it is imported. This module doesn't import it."""

from __future__ import annotations

import os
from collections.abc import Mapping

from orz_train.config.schema import Config


def engine_environment(config: Config, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return what has to be in the environment before `vllm` is imported.

    Args:
        config: of the run.
        environ: the user's environment; offline by default, but a choice there stays.
    """
    threads = str(config.cluster.num_threads)
    variables = {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine lives and dies with this process
        "VLLM_ALLOW_INSECURE_SERIALIZATION": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": environ.get("HF_HUB_OFFLINE", "1"),
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": threads,  # vLLM on a CPU ignores torch.set_num_threads
        "MKL_NUM_THREADS": threads,
    }
    if config.cluster.num_gpus == 0:
        variables |= {
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # the cores are shared with other ranks
            "VLLM_CPU_KVCACHE_SPACE": str(config.cluster.kv_cache_gib),
        }
        if config.cluster.engine_options.get("enforce_eager", True):
            variables["TORCHDYNAMO_DISABLE"] = "1"  # else the sampler compiles for 17 s at its first token
    return variables
