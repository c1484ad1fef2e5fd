"""One rank of a real DeepSpeed run: trains tiny models, saves them, and records what the live engine holds.

    python deepspeed_ranks.py RANK NUM_RANKS PORT FOLDER [HOST]

The ranks meet at PORT of HOST, of this machine where none is given.

Reads FOLDER/cases.json, a list of `DEFAULTS` with changes and a `name`. Of each case it writes into FOLDER/<name>:

- `checkpoint/`: what `engine.save_checkpoint` makes
- `masters.safetensors`: the fp32 weights of the engine when it saved the (first) tag, frozen ones and buffers as they
  are, every name of a tied weight; `weights.safetensors`: the same in the engine's own precision
- `tool.safetensors`, or `tool.txt` with its error: what DeepSpeed's `zero_to_fp32` makes of the checkpoint
- `facts.json`: the optimizer's class

A case with a `layout` is one of deepspeed_parallel.py.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

import deepspeed
import torch
from deepspeed import comm
from deepspeed.ops.op_builder.all_ops import ALL_OPS
from deepspeed.utils import safe_get_full_fp32_param
from deepspeed_afterwards import make_more
from deepspeed_parallel import play_layout
from safetensors.torch import save_file
from torch import Tensor, nn

Case = dict[str, Any]
Tensors = dict[str, Tensor]

DEFAULTS: Case = {
    "stage": 2,
    "dtype": "float32",
    "tied": False,
    "frozen": False,
    "buffers": True,
    "empty": False,
    "groups": 1,
    "zero": {},
    "config": {},
    "exclude_frozen": False,
    "again": False,
    "export": False,
    "universal": False,
    "swapped": False,
    "older": False,
    "nodes": False,
}
"""`zero` and `config` are laid over those parts of DeepSpeed's settings. What else a case can ask for:

- `again`: a second tag, one step later, and a tag `mixed` of which rank 1 is of the first one
- `export`: run the tool as its command does, into safetensors
- `universal`: convert the tag
- `swapped`: a tag with the shards as NVMe offload leaves them
- `older`: a tag with `param_shapes` as DeepSpeed 0.5.3 had it: one dictionary, in the optimizer's files
- `nodes`: save once more, each rank to a disk of its own: `node-0/`, `node-1/`, ...
"""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
SECTIONS = {"float32": {}, "bfloat16": {"bf16": {"enabled": True}}}


class Tiny(nn.Module):
    """A model of odd sizes, so that partitions need padding."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.embed = nn.Embedding(13, 7)
        self.first = nn.Linear(7, 5)
        self.norm = nn.LayerNorm(5)
        self.second = nn.Linear(5, 7, bias=False)
        self.scale = nn.Parameter(torch.tensor([0.75]))
        self.head = nn.Linear(7, 13, bias=False)
        if case["tied"]:
            self.head.weight = self.embed.weight
        if case["frozen"]:
            for frozen in (self.second, self.norm):
                frozen.requires_grad_(requires_grad=False)
        if case["empty"]:
            self.spare = nn.Module()  # never called: under ZeRO-3, DeepSpeed 0.19.8 could not gather them alone
            self.spare.none = nn.Parameter(torch.empty(0, 3))
            self.spare.nothing = nn.Parameter(torch.empty(2, 0))
        if case["buffers"]:
            self.norm.register_buffer("shift", torch.tensor([0.1, 0.2, 0.3]))
            self.register_buffer("seen", torch.tensor(12345678901))
            self.register_buffer("mask", torch.tensor([True, False, True]))
            self.register_buffer("cache", torch.ones(4), persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        hidden = self.norm(self.first(self.embed(ids)))
        return self.head(self.second(hidden) * self.scale)


def settings(case: Case) -> dict[str, Any]:
    """Return DeepSpeed's settings of a case."""
    return {
        "train_micro_batch_size_per_gpu": 1,
        "zero_optimization": {"stage": case["stage"], **case["zero"]},
        "zero_allow_untested_optimizer": True,
        **SECTIONS[case["dtype"]],
        **case["config"],
    }


def make_optimizer(model: nn.Module, case: Case) -> torch.optim.Optimizer:
    """Return AdamW over one group, or over two: matrices and the rest."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if case["groups"] == 1:
        return torch.optim.AdamW(trained, lr=1e-2)
    matrices = [parameter for parameter in trained if parameter.dim() > 1 and parameter.numel()]
    rest = [parameter for parameter in trained if parameter.dim() <= 1 or not parameter.numel()]
    return torch.optim.AdamW([{"params": matrices}, {"params": rest, "weight_decay": 0.0}], lr=1e-2)


def make_engine(case: Case) -> Any:
    """Return an engine over a fresh model."""
    torch.manual_seed(7)
    model = Tiny(case)
    engine, *_ = deepspeed.initialize(model=model, optimizer=make_optimizer(model, case), config=settings(case))
    return engine


def train(engine: Any, num_steps: int) -> None:
    """Take steps on rows that differ by rank."""
    for step in range(num_steps):
        ids = (torch.arange(6) * (comm.get_rank() + 2) + step) % 13
        logits = engine(ids)
        engine.backward(nn.functional.cross_entropy(logits.float(), (ids + 1) % 13))
        engine.step()


def whole_masters(optimizer: Any) -> dict[Tensor, Tensor]:
    """Return the fp32 copy of each parameter without ZeRO; none where there is no other precision."""
    groups = zip(getattr(optimizer, "fp16_groups", ()), getattr(optimizer, "fp32_groups", ()), strict=True)
    return {low: high for lows, highs in groups for low, high in zip(lows, highs, strict=True)}


def in_turns(optimizer: Any) -> dict[Tensor, Tensor]:
    """Return the fp32 copy of each parameter under round-robin order.

    `safe_get_full_fp32_param` of DeepSpeed 0.19.8 takes the parameters in their other order there.
    """
    found: dict[Tensor, Tensor] = {}
    for group, partition in zip(
        optimizer.round_robin_bit16_groups, optimizer.single_partition_of_fp32_groups, strict=True
    ):
        partitions = [torch.empty_like(partition) for _ in range(comm.get_world_size())]
        torch.distributed.all_gather(partitions, partition.detach().contiguous())
        offset, flat = 0, torch.cat(partitions)
        for parameter in group:
            found[parameter] = flat[offset : offset + parameter.numel()].view(parameter.shape)
            offset += parameter.numel()
    return found


def masters(engine: Any) -> Tensors:
    """Return the fp32 weights, frozen ones and buffers as they are."""
    found: Tensors = {}
    turns = in_turns(engine.optimizer) if getattr(engine.optimizer, "round_robin_gradients", False) else {}
    for name, parameter in engine.module.named_parameters(remove_duplicate=False):
        if engine.zero_optimization_stage() == 0:
            found[name] = whole_masters(engine.optimizer).get(parameter, parameter).detach().clone()
        elif not parameter.requires_grad:
            with deepspeed.zero.GatheredParameters([parameter]):
                found[name] = parameter.detach().clone()
        elif parameter in turns:
            found[name] = turns[parameter].clone()
        elif (parameter.ds_numel if hasattr(parameter, "ds_numel") else parameter.numel()) == 0:
            found[name] = torch.empty(getattr(parameter, "ds_shape", parameter.shape), dtype=parameter.dtype)
        else:
            found[name] = safe_get_full_fp32_param(parameter).detach().clone()
    return found | buffers(engine)


def weights(engine: Any) -> Tensors:
    """Return what the forward pass computes with."""
    found: Tensors = {}
    for name, parameter in engine.module.named_parameters(remove_duplicate=False):
        with deepspeed.zero.GatheredParameters([parameter]):
            found[name] = parameter.detach().clone()
    return found | buffers(engine)


def buffers(engine: Any) -> Tensors:
    """Return those that a state_dict has."""
    kept = engine.module.state_dict().keys()
    return {name: buffer.clone() for name, buffer in engine.module.named_buffers() if name in kept}


def write(tensors: Tensors, file: Path) -> None:
    """Write tensors from rank 0."""
    if comm.get_rank() == 0:
        save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, file)


def play(case: Case, folder: Path) -> None:
    """Play one case."""
    checkpoint = folder / "checkpoint"
    engine = make_engine(case)
    train(engine, 2)
    engine.save_checkpoint(str(checkpoint), exclude_frozen_parameters=case["exclude_frozen"])
    for name, tensors in (("masters", masters(engine)), ("weights", weights(engine))):
        write(tensors, folder / f"{name}.safetensors")
    if case["nodes"]:
        engine.save_checkpoint(str(folder / f"node-{comm.get_rank()}"))
    if case["again"]:
        train(engine, 1)
        engine.save_checkpoint(str(checkpoint))
    if comm.get_rank() == 0:
        (folder / "facts.json").write_text(json.dumps({"optimizer": type(engine.optimizer).__name__}))
        make_more(case, checkpoint, folder)
    comm.barrier()
    engine.destroy()


def main(rank: int, num_ranks: int, port: int, folder: Path, host: str = "127.0.0.1") -> None:
    """Play all cases."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(num_ranks), "LOCAL_RANK": "0"}
    deepspeed.ops.__compatible_ops__ = dict.fromkeys(ALL_OPS, False)  # nothing is compiled
    warnings.filterwarnings("ignore", category=FutureWarning)
    deepspeed.init_distributed(
        dist_backend="gloo",
        auto_mpi_discovery=False,
        verbose=False,
        timeout=timedelta(seconds=120),
        init_method=f"tcp://{host}:{port}",
        rank=rank,
        world_size=num_ranks,
    )
    for case in json.loads((folder / "cases.json").read_text()):
        (folder / case["name"]).mkdir(exist_ok=True)
        if "layout" in case:
            play_layout(case["layout"], case["stage"], folder / case["name"])
        else:
            play({**DEFAULTS, **case}, folder / case["name"])
    comm.barrier()
    comm.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]), *sys.argv[5:])
