"""Checkpoints of a model on an NVIDIA GPU, by one rank over NCCL. Run by `test_saved_on_a_gpu.py`.

    python gpu_saves.py FOLDER

Writes FOLDER/<case>/: the checkpoint as its framework writes it, and beside it `<case>.safetensors`, what the
framework's own loader makes of it.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.utils import safe_get_full_fp32_param
from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.checkpoint import state_dict_saver as dcp
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

CUDA = torch.device("cuda", 0)
STAGES = ("zero0", "zero1", "zero2", "zero3")


class Model(nn.Module):
    """A tied head, a frozen weight, a buffer, two types."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(11, 6)
        self.up = nn.Linear(6, 10)
        self.down = nn.Linear(10, 6, bias=False)
        self.head = nn.Linear(6, 11, bias=False)
        self.head.weight = self.embed.weight
        self.up.weight.requires_grad_(requires_grad=False)
        self.register_buffer("position", torch.arange(5))

    def forward(self, ids: Tensor) -> Tensor:
        hidden = self.embed(ids)
        return self.head(hidden + self.down(torch.relu(self.up(hidden))))


def loss_of(model: Callable[[Tensor], Tensor]) -> Tensor:
    ids = torch.arange(6, device=CUDA)
    return nn.functional.cross_entropy(model(ids).float(), (ids + 1) % 11)


def expect(out: Path, tensors: dict[str, Any]) -> None:
    """Keep what a framework's own loader makes of a checkpoint."""
    whole = {name: value for name, value in tensors.items() if isinstance(value, Tensor)}
    save_file({name: value.cpu().contiguous().clone() for name, value in whole.items()}, f"{out}.safetensors")


def masters(model: nn.Module) -> dict[str, Tensor]:
    """Return what stage 0 trains in fp32; DeepSpeed's tool reads no checkpoint of it."""
    named = dict(model.named_parameters())
    return {name: named[name] if name == "up.weight" else safe_get_full_fp32_param(named[name]) for name in named}


def deepspeed_engine(out: Path) -> None:
    """DeepSpeed in bfloat16 after two steps, of the stage that ends the case's name."""
    model = Model().to(CUDA)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    config = {
        "train_micro_batch_size_per_gpu": 1,
        "zero_optimization": {"stage": int(out.name[-1])},
        "zero_allow_untested_optimizer": True,
        "bf16": {"enabled": True},
    }
    engine, *_ = deepspeed.initialize(model=model, optimizer=torch.optim.AdamW(trained, lr=1e-2), config=config)
    for _ in range(2):
        engine.backward(loss_of(engine))
        engine.step()
    engine.save_checkpoint(out)
    expect(out, masters(engine.module) if out.name == "zero0" else get_fp32_state_dict_from_zero_checkpoint(out))
    engine.destroy()


def sharded() -> dict[str, Any]:
    model = Model().to(CUDA)
    fully_shard(model, mesh=init_device_mesh("cuda", (1,), mesh_dim_names=("fsdp",)))
    optimizer = torch.optim.AdamW([parameter for parameter in model.parameters() if parameter.requires_grad], lr=1e-2)
    loss_of(model).backward()
    optimizer.step()
    return model.state_dict()


def fsdp2(out: Path) -> None:
    """A file of DTensors on the GPU, as verl names it."""
    state = sharded()
    out.mkdir()
    torch.save(state, out / "model_world_size_1_rank_0.pt")
    expect(
        out, {name: value.full_tensor() if hasattr(value, "full_tensor") else value for name, value in state.items()}
    )


def dcp_folder(out: Path) -> None:
    dcp.save({"model": sharded()}, checkpoint_id=out)
    dcp_to_torch_save(str(out), f"{out}.pt")
    expect(out, torch.load(f"{out}.pt", weights_only=True)["model"])


def dcp_asynchronous(out: Path) -> None:
    saving = dcp.async_save(sharded(), checkpoint_id=out, process_group=dist.new_group(backend="gloo"))
    assert isinstance(saving, Future)
    saving.result()
    dcp_to_torch_save(str(out), f"{out}.pt")
    expect(out, torch.load(f"{out}.pt", weights_only=True))


def torch_zip(out: Path, *, as_zip: bool = True) -> None:
    """One file of tensors in bfloat16 that are still on the GPU, as careless scripts save them."""
    state = Model().to(CUDA, torch.bfloat16).state_dict()
    out.mkdir()
    torch.save(state, out / "pytorch_model.bin", _use_new_zipfile_serialization=as_zip)
    expect(out, torch.load(out / "pytorch_model.bin", weights_only=True))


def torch_legacy(out: Path) -> None:
    torch_zip(out, as_zip=False)


CASES = {
    **dict.fromkeys(STAGES, deepspeed_engine),
    "fsdp2": fsdp2,
    "dcp": dcp_folder,
    "dcp_asynchronous": dcp_asynchronous,
    "torch_zip": torch_zip,
    "torch_legacy": torch_legacy,
}


def main(folder: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port, RANK="0", WORLD_SIZE="1", LOCAL_RANK="0")
    torch.cuda.set_device(CUDA)
    deepspeed.init_distributed("nccl")
    for name, save in CASES.items():
        save(folder / name)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
