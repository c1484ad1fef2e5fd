"""Settings of the cluster that contradict each other."""

from __future__ import annotations

from collections.abc import Iterator

from orz_train.config.conflict import Check, Conflict
from orz_train.config.schema import Config


def gpus_suffice(config: Config) -> Iterator[Conflict]:
    """Roles and engines fit on the GPUs of the run, so placement never waits for some that don't exist."""
    cluster = config.cluster
    if config.backend != "cluster" or cluster.num_gpus == 0:
        return
    engines = cluster.num_engines * cluster.tensor_parallel
    named = f"cluster.num_engines {cluster.num_engines} x cluster.tensor_parallel {cluster.tensor_parallel}"
    if cluster.layout == "colocated":
        if engines > cluster.num_gpus:
            yield Conflict(
                ("cluster.num_engines", "cluster.tensor_parallel", "cluster.num_gpus"),
                f"{named} = {engines} GPUs, expected at most cluster.num_gpus {cluster.num_gpus}",
            )
        return
    if cluster.policy_gpus is None:
        yield Conflict(("cluster.policy_gpus", "cluster.layout"), "missing; layout split gives the policy its own GPUs")
    if cluster.critic_gpus is None and config.critic is not None:
        yield Conflict(("cluster.critic_gpus", "cluster.layout"), "missing; layout split gives the critic its own GPUs")
    needed = (cluster.policy_gpus or 0) + (cluster.critic_gpus or 0) + engines
    if needed > cluster.num_gpus:
        yield Conflict(
            ("cluster.num_gpus", "cluster.policy_gpus", "cluster.num_engines"),
            f"got {cluster.num_gpus}, expected at least {needed}: cluster.policy_gpus {cluster.policy_gpus or 0} +"
            f" cluster.critic_gpus {cluster.critic_gpus or 0} + {named}",
        )


def split_sizes_belong_to_split(config: Config) -> Iterator[Conflict]:
    """GPUs of single roles mean something only where roles have their own."""
    if config.cluster.layout == "split":
        if config.cluster.critic_gpus is not None and config.critic is None:
            yield Conflict(
                ("cluster.critic_gpus",), "this run has no critic; remove it, or its GPUs would be reserved for nothing"
            )
        return
    for name in ("policy_gpus", "critic_gpus"):
        if getattr(config.cluster, name) is not None:
            yield Conflict((f"cluster.{name}",), "is for cluster.layout: split; remove it, or choose that layout")


def cpu_runs_have_no_gpu_settings(config: Config) -> Iterator[Conflict]:
    """Ranks are counted by GPUs where there are some, and by `num_ranks` where there are none."""
    cluster = config.cluster
    if config.backend != "cluster":
        return
    if cluster.num_gpus:
        if cluster.num_ranks != 1:
            yield Conflict(
                ("cluster.num_ranks", "cluster.num_gpus"),
                "is for cluster.num_gpus: 0; with GPUs each of them is a rank, so remove it",
            )
        return
    if cluster.layout == "split":
        yield Conflict(("cluster.layout", "cluster.num_gpus"), "got split, which divides GPUs, and num_gpus is 0")
    if cluster.offload != "none":
        yield Conflict(
            ("cluster.offload", "cluster.num_gpus"),
            f"got {cluster.offload}, which moves what is on GPUs, and num_gpus is 0",
        )


def offload_has_something_to_move(config: Config) -> Iterator[Conflict]:
    """DeepSpeed offloads what ZeRO shards."""
    cluster = config.cluster
    needed = {"none": 0, "optimizer": 1, "all": 3}[cluster.offload]
    if config.backend == "cluster" and cluster.zero_stage < needed:
        yield Conflict(
            ("cluster.offload", "cluster.zero_stage"),
            f"got {cluster.offload}, expected cluster.zero_stage of at least {needed}, which is {cluster.zero_stage}",
        )


def bfloat16_adds_up_in_float32(config: Config) -> Iterator[Conflict]:
    """DeepSpeed adds the gradients of an update's rows up in float32 from ZeRO 1 on, without ZeRO in bfloat16.

    There each further row is rounded to the bits of the sum so far: 1 % is lost in 128 rows, 3 % in 1024.
    """
    if config.backend != "cluster" or config.cluster.zero_stage > 0:
        return
    for role, model in (("policy", config.policy), ("critic", config.critic)):
        if model is not None and model.dtype == "bfloat16":
            yield Conflict(
                ("cluster.zero_stage", f"{role}.dtype"),
                f"got 0, expected at least 1 with {role}.dtype bfloat16: without ZeRO the gradients of all rows are"
                " added up in bfloat16, which rounds late rows away; set cluster.zero_stage=2 (one rank loses"
                f" nothing by it) or {role}.dtype=float32",
            )


def models_can_leave_shared_gpus(config: Config) -> Iterator[Conflict]:
    """Where roles take turns on a GPU, a model in training has to leave it.

    Under ZeRO 1 in bfloat16 DeepSpeed 0.19.8 takes an optimizer that can't be moved: weights, gradients and a second
    copy of masters and moments stayed on the GPU.
    """
    cluster = config.cluster
    shares = config.backend == "cluster" and cluster.num_gpus > 0 and cluster.layout == "colocated"
    if not shares or cluster.zero_stage != 1 or cluster.offload != "none":
        return
    for role, model in (("policy", config.policy), ("critic", config.critic)):
        if model is not None and model.dtype == "bfloat16":
            yield Conflict(
                ("cluster.zero_stage", f"{role}.dtype"),
                f"got 1 with {role}.dtype bfloat16 and cluster.layout colocated: DeepSpeed then keeps the model on the"
                " GPU when others have their turn; set cluster.zero_stage=2 (nobody loses by it)",
            )


def transfer_fits_layout(config: Config) -> Iterator[Conflict]:
    """NCCL joins processes that have a GPU each; IPC those that share one."""
    cluster, transfer = config.cluster, config.cluster.weights.transfer
    if config.backend != "cluster" or transfer in {"auto", "host"}:
        return
    if cluster.num_gpus == 0:
        yield Conflict(("cluster.weights.transfer", "cluster.num_gpus"), f"got {transfer}, which needs GPUs; take host")
    elif (transfer == "ipc") != (cluster.layout == "colocated"):
        wanted = "colocated" if transfer == "ipc" else "split"
        yield Conflict(
            ("cluster.weights.transfer", "cluster.layout"),
            f"got {transfer}, which is for layout {wanted}; take auto, which chooses by the layout",
        )


CLUSTER_CHECKS: tuple[Check, ...] = (
    gpus_suffice,
    split_sizes_belong_to_split,
    cpu_runs_have_no_gpu_settings,
    offload_has_something_to_move,
    bfloat16_adds_up_in_float32,
    models_can_leave_shared_gpus,
    transfer_fits_layout,
)
