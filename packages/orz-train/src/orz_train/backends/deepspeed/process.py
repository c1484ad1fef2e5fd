"""A process's way into the group of ranks, and out of it."""

from __future__ import annotations

import os
import warnings
from datetime import timedelta

import deepspeed
import torch
from deepspeed import comm
from deepspeed.accelerator import get_accelerator
from deepspeed.ops.op_builder.all_ops import ALL_OPS
from deepspeed.utils import groups
from torch.distributed import distributed_c10d

from orz_train.errors import BackendMissingError

EXCHANGE_TIMEOUT = timedelta(hours=2)
"""After which a rank gives up an exchange. Others may write a large model to a slow disk meanwhile, or compile; and a
rank that ends or fails is noticed at once without it. So it only has to end, some day, a hang that nobody sees."""


def join(rank: int, world_size: int, master_address: str, master_port: int, *, cpu: bool, timeout_s: float) -> None:
    """Meet the other ranks; returns once all of them are there.

    None of DeepSpeed's compiled operators is used, so no compiler has to be there, and nothing is built that a
    killed process could leave behind half done.

    Args:
        rank: of this process, from 0.
        world_size: D.
        master_address: of the node where rank 0 runs.
        master_port: free there; rank 0 listens on it.
        cpu: compute on CPUs (gloo), else on this process's first visible GPU (nccl).
        timeout_s: seconds after which the others are given up here; later exchanges have `EXCHANGE_TIMEOUT`.

    Raises:
        BackendMissingError: DeepSpeed found other devices than the run wants.
    """
    found = get_accelerator().device_name()
    wanted = "cpu" if cpu else "cuda"
    if found != wanted:
        raise BackendMissingError(
            f"rank {rank} is to compute on {wanted}, but DeepSpeed chose {found}",
            remedy="set DS_ACCELERATOR=cpu in the rank's environment"
            if cpu
            else "look at `nvidia-smi`, or set cluster.num_gpus=0 to run on CPUs",
        )
    # DeepSpeed asks the environment for these in several places, whatever it is told
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world_size), "LOCAL_RANK": "0"}
    deepspeed.ops.__compatible_ops__ = dict.fromkeys(ALL_OPS, False)  # asked before an operator is compiled
    warnings.filterwarnings("ignore", message="`torch.distributed", category=FutureWarning)  # DeepSpeed's older names
    deepspeed.init_distributed(
        dist_backend="gloo" if cpu else "nccl",
        auto_mpi_discovery=False,
        verbose=False,
        timeout=timedelta(seconds=timeout_s),
        init_method=f"tcp://{master_address}:{master_port}",
        rank=rank,
        world_size=world_size,
    )
    for group in (torch.distributed.group.WORLD, groups._clone_world_group()):  # noqa: SLF001  # DeepSpeed's has torch's
        distributed_c10d._set_pg_timeout(EXCHANGE_TIMEOUT, group)  # noqa: SLF001  # the only way after they have met


def leave() -> None:
    """Part from the other ranks, once all are done; without it a ZeRO-3 process aborts as it ends."""
    if not torch.distributed.is_initialized():
        return
    comm.barrier()
    comm.destroy_process_group()
