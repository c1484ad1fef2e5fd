"""Write a checkpoint of DeepSpeed's own engine, of a decoder's shapes, on gloo ranks of this machine.

Usage: python benchmarks/zero_checkpoint.py FOLDER STAGE [RANKS] [LAYERS]

The hidden size is 1024; 12 layers and an untied head make 214 M parameters. Nothing is trained: the engine makes its
masters when it starts, and Adam's state is zeros. Under ZeRO-3 the masters get noise, so that rounding them has work
to do; under ZeRO-2 they stay equal to the 16-bit weights beside them, as they are after a step.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

HIDDEN, INNER, VOCABULARY = 1024, 2816, 32_000


def main() -> None:
    """Start the ranks and wait for them."""
    folder, stage = Path(sys.argv[1]), int(sys.argv[2])
    ranks = int(sys.argv[3]) if len(sys.argv) > 3 else 8  # noqa: PLR2004
    layers = sys.argv[4] if len(sys.argv) > 4 else "12"  # noqa: PLR2004
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, str(folder), str(stage), str(ranks), layers],
            env={
                **os.environ,
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(ranks),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "OMP_NUM_THREADS": "1",
                "DS_ACCELERATOR": "cpu",
            },
        )
        for rank in range(ranks)
    ]
    codes = [process.wait() for process in processes]
    if any(codes):
        raise SystemExit(f"ranks ended with {codes}")


def run_rank(folder: str, stage: int, layers: int) -> None:
    """Be one rank."""
    import deepspeed  # noqa: PLC0415  heavy, and the parent does not need it
    import torch  # noqa: PLC0415
    from deepspeed import comm  # noqa: PLC0415
    from deepspeed.ops.op_builder.all_ops import ALL_OPS  # noqa: PLC0415
    from torch import nn  # noqa: PLC0415

    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q_proj = nn.Linear(HIDDEN, HIDDEN)
            self.k_proj = nn.Linear(HIDDEN, HIDDEN // 4)
            self.v_proj = nn.Linear(HIDDEN, HIDDEN // 4)
            self.o_proj = nn.Linear(HIDDEN, HIDDEN, bias=False)
            self.gate_proj = nn.Linear(HIDDEN, INNER, bias=False)
            self.up_proj = nn.Linear(HIDDEN, INNER, bias=False)
            self.down_proj = nn.Linear(INNER, HIDDEN, bias=False)
            self.norm = nn.LayerNorm(HIDDEN)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed_tokens = nn.Embedding(VOCABULARY, HIDDEN)
            self.layers = nn.ModuleList(Layer() for _ in range(layers))
            self.lm_head = nn.Linear(HIDDEN, VOCABULARY, bias=False)

    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    # No op is compiled: DeepSpeed's own for shared memory spins while a rank waits for the others.
    deepspeed.ops.__compatible_ops__ = dict.fromkeys(ALL_OPS, False)
    deepspeed.init_distributed(dist_backend="gloo", auto_mpi_discovery=False)
    model = Model()
    torch.set_default_dtype(torch.float32)
    decayed = [weight for weight in model.parameters() if weight.ndim > 1]
    other = [weight for weight in model.parameters() if weight.ndim == 1]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": other, "weight_decay": 0.0}]
    config = {
        "train_micro_batch_size_per_gpu": 1,
        "bf16": {"enabled": True},
        "zero_optimization": {"stage": stage, "sub_group_size": 100_000_000},
        "zero_allow_untested_optimizer": True,
    }
    engine, *_ = deepspeed.initialize(model=model, optimizer=torch.optim.AdamW(groups, lr=1e-4), config=config)
    optimizer = engine.optimizer
    sharded = stage == 3  # noqa: PLR2004  the stage that spreads the weights, too
    for masters in optimizer.fp32_partitioned_groups_flat if sharded else optimizer.single_partition_of_fp32_groups:
        if sharded:
            masters.data.add_(1e-4 * torch.randn_like(masters))
        moments = {"exp_avg": torch.zeros_like(masters), "exp_avg_sq": torch.zeros_like(masters)}
        optimizer.optimizer.state[masters] = {"step": torch.tensor(1.0), **moments}
    engine.save_checkpoint(folder)
    engine.destroy()
    comm.barrier()
    comm.destroy_process_group()


if __name__ == "__main__":
    if "RANK" in os.environ:
        run_rank(sys.argv[1], int(sys.argv[2]), int(sys.argv[4]))
    else:
        main()
