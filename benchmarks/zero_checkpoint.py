"""Write a checkpoint through DeepSpeed's own engine, of the shapes of Qwen2.5, by ranks of this machine.

    python benchmarks/zero_checkpoint.py FOLDER --stage 3 [--shape 215m] [--ranks 8] [--in-turn]
    python benchmarks/zero_checkpoint.py --check

All ranks run at once over gloo, as in training. With `--in-turn` they run one after the other, each with torch's
`fake` process group, whose collectives do nothing: memory is that of one rank, so that a model fits that does not fit
eight times. The weights are the same on every rank before DeepSpeed divides them, so no collective changes anything:
`--check` writes a tiny model both ways, under ZeRO-2 and ZeRO-3, and stops unless all files are the same byte for byte.

Nothing is trained: the engine makes its masters when it starts, and Adam's state is zeros. Under ZeRO-3 the masters get
noise, so that rounding them has work to do; under ZeRO-2 they stay equal to the 16-bit weights beside them, as they are
after a step.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import torch

SHAPES: Final = {
    "tiny": {
        "hidden_size": 56,
        "intermediate_size": 90,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 101,
    },
    "215m": {
        "hidden_size": 1024,
        "intermediate_size": 2816,
        "num_hidden_layers": 12,
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
        "vocab_size": 32_000,
    },
    "qwen2.5-0.5b": {
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "vocab_size": 151_936,
    },
}
"""Settings of transformers' Qwen2. Heads are not tied to embeddings: DeepSpeed's tool ends with an error where they are
and safetensors is asked for. So the shape of Qwen2.5-0.5B has 630 M parameters."""
SUB_GROUP_SIZES: Final = {"tiny": 10_000}
"""Small ones have several groups under ZeRO-3, as large models have."""
SHARDED: Final = 3
"""The stage that divides the weights, too."""


def main() -> None:
    """Parse the command line and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--stage", type=int, choices=(2, SHARDED), default=SHARDED)
    parser.add_argument("--shape", choices=SHAPES, default="215m")
    parser.add_argument("--ranks", type=int, default=8)
    parser.add_argument("--in-turn", action="store_true", help="one rank after the other, without collectives")
    parser.add_argument("--check", action="store_true", help="prove that both ways write the same")
    arguments = parser.parse_args()
    if arguments.check:
        for stage in (2, SHARDED):
            print(f"ZeRO-{stage}: {check(stage)} files of both ways are the same byte for byte")
    elif arguments.folder is None:
        parser.error("give a FOLDER, or --check")
    else:
        write(arguments.folder, arguments.stage, arguments.shape, arguments.ranks, in_turn=arguments.in_turn)


def write(folder: Path, stage: int, shape: str, ranks: int, *, in_turn: bool = False) -> None:
    """Write a checkpoint into `folder`.

    Args:
        folder: what `engine.save_checkpoint` gets.
        stage: of ZeRO.
        shape: one of `SHAPES`.
        ranks: how many save.
        in_turn: one after the other.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def start(rank: int) -> subprocess.Popen[bytes]:
        environment = {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(ranks),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "OMP_NUM_THREADS": "1",
            "DS_ACCELERATOR": "cpu",
            "ORZ_BENCHMARK_IN_TURN": str(int(in_turn)),
        }
        command = [sys.executable, __file__, str(folder), f"--stage={stage}", f"--shape={shape}"]
        return subprocess.Popen(command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL)

    if in_turn:
        codes = [start(rank).wait() for rank in range(ranks)]
    else:
        codes = [process.wait() for process in [start(rank) for rank in range(ranks)]]
    if any(codes):
        raise SystemExit(f"ranks ended with {codes}")


def check(stage: int, ranks: int = 3) -> int:
    """Stop unless both ways write the same files; return how many these are."""
    with tempfile.TemporaryDirectory() as name:
        real, in_turn = Path(name) / "real", Path(name) / "in-turn"
        write(real, stage, "tiny", ranks)
        write(in_turn, stage, "tiny", ranks, in_turn=True)
        files, others = (
            {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
            for folder in (real, in_turn)
        )
        differ = sorted(files ^ others) or filecmp.cmpfiles(real, in_turn, files, shallow=False)[1:]
        if any(differ) or len(files) <= ranks:
            raise SystemExit(f"ZeRO-{stage}: these files differ, or are missing: {differ}; compared {sorted(files)}")
    return len(files)


def run_rank(folder: str, stage: int, shape: str) -> None:
    """Be one rank."""
    import deepspeed  # noqa: PLC0415  heavy, and the parent does not need it
    import torch  # noqa: PLC0415
    from deepspeed import comm  # noqa: PLC0415
    from deepspeed.ops.op_builder.all_ops import ALL_OPS  # noqa: PLC0415
    from transformers import Qwen2Config, Qwen2ForCausalLM  # noqa: PLC0415

    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    # No op is compiled: DeepSpeed's own for shared memory spins while a rank waits for the others.
    deepspeed.ops.__compatible_ops__ = dict.fromkeys(ALL_OPS, False)
    if os.environ["ORZ_BENCHMARK_IN_TURN"] == "1":
        from torch.testing._internal.distributed.fake_pg import FakeStore  # noqa: PLC0415

        torch.distributed.init_process_group("fake", rank=rank, world_size=ranks, store=FakeStore())
    deepspeed.init_distributed(dist_backend="gloo", auto_mpi_discovery=False)
    with torch.device("meta"):
        model = Qwen2ForCausalLM(Qwen2Config(tie_word_embeddings=False, **SHAPES[shape])).to(torch.bfloat16)
    model.to_empty(device="cpu")
    torch.manual_seed(0)
    for weight in model.parameters():
        weight.data.uniform_(-0.05, 0.05)
    decayed = [weight for weight in model.parameters() if weight.ndim > 1]
    other = [weight for weight in model.parameters() if weight.ndim == 1]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": other, "weight_decay": 0.0}]
    config = {
        "train_micro_batch_size_per_gpu": 1,
        "bf16": {"enabled": True},
        "zero_optimization": {"stage": stage, "sub_group_size": SUB_GROUP_SIZES.get(shape, 100_000_000)},
        "zero_allow_untested_optimizer": True,
    }
    engine, *_ = deepspeed.initialize(model=model, optimizer=torch.optim.AdamW(groups, lr=1e-4), config=config)
    optimizer, sharded = engine.optimizer, stage == SHARDED
    torch.manual_seed(rank)
    if sharded:
        add_noise(optimizer, rank)
    for masters in optimizer.fp32_partitioned_groups_flat if sharded else optimizer.single_partition_of_fp32_groups:
        moments = {"exp_avg": torch.zeros_like(masters), "exp_avg_sq": torch.zeros_like(masters)}
        optimizer.optimizer.state[masters] = {"step": torch.tensor(1.0), **moments}
    engine.save_checkpoint(folder)
    engine.destroy()
    comm.barrier()
    comm.destroy_process_group()


def add_noise(optimizer: Any, rank: int) -> None:
    """Add noise to a rank's masters under ZeRO-3.

    The last rank's share of a parameter can be longer than what is left of it. DeepSpeed leaves what is beyond as it
    finds it in memory; it is made zero here, so that two runs write the same.
    """
    for group, masters in zip(optimizer.fp16_groups, optimizer.fp32_partitioned_groups_flat, strict=True):
        masters.data.add_(noise_like(masters), alpha=1e-4)
        offset = 0
        for weight in group:
            share = weight.ds_tensor.ds_numel
            real = max(0, min(share, weight.ds_numel - rank * share))
            masters.data[offset + real : offset + share] = 0.0
            offset += share


def noise_like(masters: torch.Tensor) -> torch.Tensor:
    """Return numbers of a normal distribution."""
    import torch  # noqa: PLC0415

    return torch.randn_like(masters)


if __name__ == "__main__":
    if "ORZ_BENCHMARK_IN_TURN" in os.environ:
        rank_parser = argparse.ArgumentParser()
        rank_parser.add_argument("folder")
        rank_parser.add_argument("--stage", type=int)
        rank_parser.add_argument("--shape")
        run_rank(**vars(rank_parser.parse_args()))
    else:
        main()
