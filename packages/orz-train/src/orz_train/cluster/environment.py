"""Environment variables of the workers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import MappingProxyType

from orz_train.backends.vllm.environment import engine_environment
from orz_train.config.schema import Config

_PASSED_ON = ("HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
"""Of the driver, for nodes whose own environment is another."""
_LOOPBACK = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo", "VLLM_HOST_IP": "127.0.0.1"}
"""Keep a run of one machine off the network."""

_CHILDREN = {"RAY_kill_child_processes_on_worker_exit": "0"}
"""Children may clean up after a killed worker, as multiprocessing's resource tracker does; its parent ends them."""


def worker_environment(
    config: Config,
    role: str,
    environ: Mapping[str, str] = os.environ,
    *,
    network: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, str]:
    """Return what a worker's environment has to hold before it imports anything.

    Args:
        config: of the run.
        role: of the worker.
        environ: of the driver.
        network: variables of the worker's node, of a cluster that isn't the run's own.
    """
    threads = str(config.cluster.num_threads)
    variables = {name: environ[name] for name in _PASSED_ON if name in environ}
    variables |= _CHILDREN | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": "false"}
    variables |= _LOOPBACK if config.cluster.address == "local" else network
    if role == "engine":
        return variables | engine_environment(config, environ)
    return variables | ({"DS_ACCELERATOR": "cpu"} if config.cluster.num_gpus == 0 else {})
