"""Real checkpoints of torch's own sharding, made by a few gloo processes on CPU. Run by `conftest.py`.

    python torch_ranks.py FOLDER NUM_RANKS CASE...

Writes FOLDER/<case>/: the checkpoint as its framework writes it, and beside it `<case>.safetensors`, what the
framework's own loader makes of it (`get_model_state_dict` with full tensors, or `dcp_to_torch_save`).
"""

from __future__ import annotations

import json
import os
import random
import socket
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.checkpoint import FileSystemWriter, HuggingFaceStorageWriter
from torch.distributed.checkpoint._extension import StreamTransformExtension
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, get_state_dict
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, ShardedStateDictConfig, StateDictType, fully_shard
from torch.distributed.tensor import DTensor, Partial, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

warnings.simplefilter("ignore")
FULL = StateDictOptions(full_state_dict=True, cpu_offload=True)
STEP = 7


class Model(nn.Module):
    """Sizes that 3 and 2 ranks do not divide; a tied head, a frozen weight, buffers, a one-element parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 6)
        self.up = nn.Linear(6, 10)
        self.down = nn.Linear(10, 6, bias=False)
        self.wide = nn.Linear(6, 2, bias=False)
        self.norm = nn.LayerNorm(6).to(torch.bfloat16)
        nn.init.normal_(self.norm.bias)
        self.scale = nn.Parameter(torch.tensor([1.5]))
        self.head = nn.Linear(6, 11, bias=False)
        self.head.weight = self.embed.weight
        self.wide.weight.requires_grad_(requires_grad=False)
        self.register_buffer("position", torch.arange(5))
        self.register_buffer("rope", torch.rand(4))
        self.register_buffer("ready", torch.tensor(data=True))

    def forward(self, ids: Tensor) -> Tensor:
        hidden = self.embed(ids)
        hidden = hidden + self.down(torch.relu(self.up(hidden))) * self.scale
        return self.head(self.norm(hidden.bfloat16()).float() + self.wide(hidden).sum(-1, keepdim=True))


def built() -> Model:
    torch.manual_seed(0)
    return Model()


def main(folder: Path, num_ranks: int, cases: list[str]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(probe.getsockname()[1]))
    torch.multiprocessing.start_processes(rank_main, (folder, num_ranks, cases), num_ranks, start_method="fork")


def rank_main(rank: int, folder: Path, num_ranks: int, cases: list[str]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=num_ranks)
    for case in cases:
        out = folder / case
        out.mkdir(parents=True, exist_ok=True)
        dist.barrier()
        CASES[case](out, rank, num_ranks)
        dist.barrier()
    dist.destroy_process_group()


def expect(out: Path, rank: int, tensors: dict[str, Tensor]) -> None:
    if rank == 0:
        save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, f"{out}.safetensors")


def save_like_verl(out: Path, rank: int, num_ranks: int, state: dict[str, Any], *, version: int) -> None:
    """Write what verl's FSDPCheckpointManager writes: `global_step_N/actor`, a file a rank and kind."""
    actor = out / f"global_step_{STEP}" / "actor"
    (actor / "huggingface").mkdir(parents=True, exist_ok=True)
    torch.save(state, actor / f"model_world_size_{num_ranks}_rank_{rank}.pt")
    random_states = {
        "cpu": torch.get_rng_state(),
        "numpy": np.random.get_state(),  # noqa: NPY002  verl keeps this one
        "random": random.getstate(),
    }
    extra = {"lr_scheduler": {"last_epoch": STEP, "_step_count": STEP + 1, "base_lrs": [1e-6]}, "rng": random_states}
    torch.save(extra, actor / f"extra_state_world_size_{num_ranks}_rank_{rank}.pt")
    if rank == 0:
        config = {"FSDP_version": version, "world_size": num_ranks}
        (actor / "fsdp_config.json").write_text(json.dumps(config), encoding="utf-8")
        (actor / "huggingface" / "config.json").write_text("{}", encoding="utf-8")
        (out / "latest_checkpointed_iteration.txt").write_text(str(STEP), encoding="utf-8")


def sharded(mesh: DeviceMesh) -> Model:
    """FSDP2: dimension 0, but `wide` along 1, and the norm's bias left whole on every rank."""
    model = built()
    even = mesh.size(-1) in {1, 2, 3, 6}  # FSDP2 cuts other dimensions than the first only evenly
    options: dict[str, Any] = {
        "mesh": mesh,
        "shard_placement_fn": lambda parameter: Shard(1) if even and parameter.shape == (2, 6) else None,
        "ignored_params": {model.norm.bias},
    }
    fully_shard(model.up, mesh=mesh)
    fully_shard(model.norm, **options)
    fully_shard(model, **options)
    return model


def fsdp2(out: Path, rank: int, num_ranks: int) -> None:
    model = sharded(init_device_mesh("cpu", (num_ranks,), mesh_dim_names=("fsdp",)))
    save_like_verl(out, rank, num_ranks, model.state_dict(), version=2)
    expect(out, rank, get_model_state_dict(model, options=FULL))


def hsdp(out: Path, rank: int, num_ranks: int) -> None:
    model = sharded(init_device_mesh("cpu", (num_ranks // 2, 2), mesh_dim_names=("ddp", "fsdp")))
    save_like_verl(out, rank, num_ranks, model.state_dict(), version=2)
    expect(out, rank, get_model_state_dict(model, options=FULL))


def fsdp_tp(out: Path, rank: int, num_ranks: int) -> None:
    """Tensor parallel inside, FSDP2 outside: `_StridedShard` and two dimensions of the mesh on one tensor."""
    mesh = init_device_mesh("cpu", (num_ranks // 2, 2), mesh_dim_names=("fsdp", "tp"))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 12), nn.Linear(12, 8, bias=False))
    parallelize_module(model, mesh["tp"], {"0": ColwiseParallel(), "1": RowwiseParallel()})
    fully_shard(model, mesh=mesh["fsdp"])
    save_like_verl(out, rank, num_ranks, model.state_dict(), version=2)
    expect(out, rank, get_model_state_dict(model, options=FULL))


def two_dims(out: Path, rank: int, num_ranks: int) -> None:
    """Both dimensions of the mesh cut one dimension of a tensor, unevenly; and two of another."""
    mesh = init_device_mesh("cpu", (num_ranks // 2, 2), mesh_dim_names=("a", "b"))
    whole = {"twice": torch.arange(21.0).reshape(7, 3), "both": torch.arange(15.0).reshape(5, 3)}
    state = {
        "twice": distribute_tensor(whole["twice"], mesh, [Shard(0), Shard(0)]),
        "both": distribute_tensor(whole["both"], mesh, [Shard(1), Shard(0)]),
    }
    save_like_verl(out, rank, num_ranks, state, version=2)
    expect(out, rank, whole)


def fsdp1(out: Path, rank: int, num_ranks: int, mesh: DeviceMesh | None = None) -> None:
    """FSDP1: `ShardedTensor` without a mesh, `DTensor` with one."""
    model = built()
    expected = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.norm.float()
    expected |= {name: tensor.float() for name, tensor in expected.items() if name.startswith("norm")}
    options: dict[str, Any] = {"device_id": torch.device("cpu"), "use_orig_params": True, "device_mesh": mesh}
    wrapped = FullyShardedDataParallel(model, **options)
    FullyShardedDataParallel.set_state_dict_type(wrapped, StateDictType.SHARDED_STATE_DICT, ShardedStateDictConfig())
    save_like_verl(out, rank, num_ranks, wrapped.state_dict(), version=1)
    expect(out, rank, expected)


def fsdp1_mesh(out: Path, rank: int, num_ranks: int) -> None:
    fsdp1(out, rank, num_ranks, init_device_mesh("cpu", (num_ranks,), mesh_dim_names=("fsdp",)))


def fsdp1_flat(out: Path, rank: int, num_ranks: int) -> None:
    """The local state dict of FSDP1: one flat parameter."""
    wrapped = FullyShardedDataParallel(built().norm, device_id=torch.device("cpu"), use_orig_params=False)
    FullyShardedDataParallel.set_state_dict_type(wrapped, StateDictType.LOCAL_STATE_DICT)
    save_like_verl(out, rank, num_ranks, wrapped.state_dict(), version=1)


def partial_sums(out: Path, rank: int, num_ranks: int) -> None:
    mesh = init_device_mesh("cpu", (num_ranks,), mesh_dim_names=("fsdp",))
    summand = DTensor.from_local(torch.ones(3), mesh, [Partial()], run_check=False)
    save_like_verl(out, rank, num_ranks, {"sum": summand, "whole": torch.ones(2)}, version=2)


def trained(num_ranks: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The state of a model and its optimizer after a step."""
    model = sharded(init_device_mesh("cpu", (num_ranks,), mesh_dim_names=("fsdp",)))
    optimizer = torch.optim.AdamW([parameter for parameter in model.parameters() if parameter.requires_grad], lr=1e-2)
    model(torch.arange(5)).sum().backward()
    optimizer.step()
    return get_state_dict(model, optimizer)


def expect_dcp(out: Path, rank: int, key: str | None = None) -> None:
    """Keep what torch's own tool makes of the checkpoint, the part below `key`."""
    if rank == 0:
        dcp_to_torch_save(str(out), f"{out}.pt")
        loaded = torch.load(f"{out}.pt", weights_only=False)
        tensors = loaded[key] if key else loaded
        expect(out, rank, {name: tensor for name, tensor in tensors.items() if isinstance(tensor, Tensor)})


def dcp_nested(out: Path, rank: int, num_ranks: int) -> None:
    model, optimizer = trained(num_ranks)
    dcp.save({"model": model, "optimizer": optimizer, "train_state": {"step": STEP}}, checkpoint_id=out)
    expect_dcp(out, rank, "model")


def dcp_flat(out: Path, rank: int, num_ranks: int) -> None:
    """The model's own names at the top, two files a rank, as torchtitan has them."""
    model, optimizer = trained(num_ranks)
    writer = FileSystemWriter(out, thread_count=2)
    dcp.save({**model, "optimizer": optimizer, "lr_scheduler": {"last_epoch": STEP}}, storage_writer=writer)
    expect_dcp(out, rank)


def dcp_single(out: Path, rank: int, num_ranks: int) -> None:
    """One process alone, plain tensors, a file each."""
    if rank == 0:
        writer = FileSystemWriter(out, single_file_per_rank=False)
        dcp.save(built().state_dict(), storage_writer=writer, no_dist=True)
        expect_dcp(out, rank)


class Reversed(StreamTransformExtension):
    """Writes bytes backwards, as no reader can know."""

    @staticmethod
    def from_descriptor(version: str) -> Reversed:
        return Reversed()

    @staticmethod
    def registry_name() -> str:
        return "test.reversed"

    def get_descriptor(self) -> str:
        return f"{self.registry_name()}/1"

    def transform_to(self, output: Any) -> Any:
        return output

    def transform_from(self, input: Any) -> Any:  # noqa: A002  the name is torch's
        return input


def dcp_transformed(out: Path, rank: int, num_ranks: int) -> None:
    """Saved through an extension, as compression is."""
    if rank == 0:
        writer = FileSystemWriter(out, _extensions=[Reversed()])
        dcp.save({"weight": torch.ones(3)}, storage_writer=writer, no_dist=True)


def dcp_no_collectives(out: Path, rank: int, num_ranks: int) -> None:
    """Every rank writes a `__R.metadata` of its own, for its own pieces."""
    model, _ = trained(num_ranks)
    dcp.save({"model": model}, checkpoint_id=out, use_collectives=False)
    expect(out, rank, whole_of(model))


def hf_shards(out: Path, rank: int, num_ranks: int) -> None:
    """A safetensors file a rank, without an index, by the Hugging Face writer of torch, which takes no tied tensors."""
    model, _ = trained(num_ranks)
    del model["head.weight"]
    dcp.save(model, storage_writer=HuggingFaceStorageWriter(str(out), save_distributed=True))
    expect(out, rank, whole_of(model))


def hf_shards_gap(out: Path, rank: int, num_ranks: int) -> None:
    """The same of ranks of which the second has no tensors, and so no file."""
    dcp.save(of_rank(rank), storage_writer=HuggingFaceStorageWriter(str(out), save_distributed=True))
    expect(out, rank, {name: value for other in range(num_ranks) for name, value in of_rank(other).items()})


def dcp_gap(out: Path, rank: int, num_ranks: int) -> None:
    """The same in torch's own files, of which the second rank has one without a byte."""
    dcp.save(of_rank(rank), checkpoint_id=out)
    expect(out, rank, {name: value for other in range(num_ranks) for name, value in of_rank(other).items()})


def dcp_no_collectives_gap(out: Path, rank: int, num_ranks: int) -> None:
    """The same, of which every rank has metadata of its own."""
    dcp.save(of_rank(rank), checkpoint_id=out, use_collectives=False)
    expect(out, rank, {name: value for other in range(num_ranks) for name, value in of_rank(other).items()})


def of_rank(rank: int) -> dict[str, Tensor]:
    """Return a layer of each rank but the second."""
    return {} if rank == 1 else {f"layers.{rank}.weight": torch.arange(16.0).view(4, 4) + rank}


def hf_consolidated(out: Path, rank: int, num_ranks: int) -> None:
    """The same writer, which also puts the shards together; it cannot size integers."""
    model, _ = trained(num_ranks)
    model = {name: value for name, value in model.items() if value.is_floating_point() and name != "head.weight"}
    dcp.save(model, storage_writer=HuggingFaceStorageWriter(str(out), save_distributed=True, enable_consolidation=True))
    expect(out, rank, whole_of(model))


def whole_of(state: dict[str, Any]) -> dict[str, Tensor]:
    return {name: value.full_tensor() if hasattr(value, "full_tensor") else value for name, value in state.items()}


CASES = {
    "fsdp2": fsdp2,
    "hsdp": hsdp,
    "fsdp_tp": fsdp_tp,
    "two_dims": two_dims,
    "fsdp1": fsdp1,
    "fsdp1_mesh": fsdp1_mesh,
    "fsdp1_flat": fsdp1_flat,
    "partial_sums": partial_sums,
    "dcp_nested": dcp_nested,
    "dcp_flat": dcp_flat,
    "dcp_single": dcp_single,
    "dcp_transformed": dcp_transformed,
    "dcp_no_collectives": dcp_no_collectives,
    "hf_shards": hf_shards,
    "hf_shards_gap": hf_shards_gap,
    "dcp_gap": dcp_gap,
    "dcp_no_collectives_gap": dcp_no_collectives_gap,
    "hf_consolidated": hf_consolidated,
}

if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
