"""Settings of `backend: cluster`: which machines, who runs where, how weights travel."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue

from orz_train.config.base import Section


class Weights(Section):
    """How the policy's weights reach the engines after each step."""

    transfer: Literal["auto", "host", "nccl", "ipc"] = "auto"
    """`host` goes through shared memory of the CPU and works everywhere; `nccl` joins GPUs of different processes,
    `ipc` processes on one GPU. `auto` takes `host` without GPUs, `ipc` where layout is colocated, else `nccl`."""
    bucket_mib: int = Field(default=512, gt=0, le=65536)
    """MiB of weights that travel at a time; also the memory that the transfer takes, twice."""
    timeout_s: float = Field(default=600.0, gt=0)
    """Seconds after which a transfer has failed, and the run with it."""
    probe: Literal["first", "every"] = "first"
    """After which transfers each engine samples a few tokens that the policy scores, to see that the weights are
    the same."""


class Cluster(Section):
    """The machines of `backend: cluster`; placement is planned from these."""

    address: str = Field(default="local", min_length=1)
    """`local` starts a Ray of its own; else the address of a running one, or `auto` for the one on this machine."""
    num_gpus: int = Field(default=1, ge=0)
    """GPUs of the run in all (ORZ's `*_num_nodes` with one GPU each); 0 runs everything on CPUs."""
    layout: Literal["colocated", "split"] = "colocated"
    """All roles share each GPU in turn, or each role has its own."""
    num_ranks: int = Field(default=1, gt=0)
    """`num_gpus: 0` only: data-parallel processes each of policy, critic and reference. With GPUs, each is a rank."""
    policy_gpus: int | None = Field(default=None, gt=0)
    """`split` only: GPUs of policy and reference."""
    critic_gpus: int | None = Field(default=None, gt=0)
    """`split` only: GPUs of the critic."""
    cpus_per_worker: float = Field(default=0.1, gt=0)
    """CPUs that each rank and engine reserves of the cluster; with a fraction, several share one."""
    num_threads: int = Field(default=1, gt=0, le=1024)
    """Threads of torch's operators in each rank and engine."""
    start_timeout_s: float = Field(default=600.0, gt=0)
    """Seconds within which all ranks and engines have to be up."""
    zero_stage: Literal[0, 1, 2, 3] = 3
    """What DeepSpeed shards over the ranks: nothing (`float32` only), optimizer states, gradients too, weights too."""
    offload: Literal["none", "optimizer", "all"] = "none"
    """What DeepSpeed keeps in the memory of the CPU: the optimizer's states, or with `zero_stage: 3` weights too."""
    num_engines: int = Field(default=1, gt=0)
    """vLLM engines."""
    tensor_parallel: int = Field(default=1, gt=0)
    """GPUs of one engine."""
    gpu_memory_utilization: float = Field(default=0.7, gt=0, le=1)
    """Share of a GPU's memory that an engine takes."""
    kv_cache_gib: int = Field(default=1, gt=0)
    """`num_gpus: 0` only: GiB of an engine's key-value cache."""
    engine_options: dict[str, JsonValue] = Field(default={})
    """Further arguments of `vllm.LLM`, as they are."""
    weights: Weights = Weights()
