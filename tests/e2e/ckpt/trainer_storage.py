"""The trainer's own preflight and store on a cluster, with a rank that is not on the driver's node.

`python trainer_storage.py ADDRESS NODE RUN WHAT [KEY=VALUE ...]`, on the head. WHAT is `check` or `save`; settings are
those of `checkpoint`. The rank stands in for DeepSpeed's: it writes weights and state of a tiny model where it is.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import ray
import torch
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from safetensors.numpy import save_file

from orz_ckpt.formats.architectures import expected_tensors
from orz_ckpt.manifest import FileEntry
from orz_cli.errors import OrzError
from orz_train.checkpoint import RunCheckpoints, check_storage
from orz_train.cluster.nodes import ClusterNodes
from orz_train.cluster.placement import Node
from orz_train.cluster.watch import Watch
from orz_train.config.load import load
from orz_train.testing import MemorySink

CONFIG = {
    "architectures": ["Qwen2ForCausalLM"],
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def write_weights(folder: Path) -> None:
    """Write a Hugging Face folder."""
    folder.mkdir(exist_ok=True)  # as ranks do: the step folder is there
    (folder / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    random = np.random.default_rng(1)
    shapes = expected_tensors(CONFIG).required
    tensors = {name: random.standard_normal(shape, dtype="<f4") for name, shape in shapes.items()}
    save_file(tensors, folder / "model.safetensors")


def write_state(folder: Path) -> None:
    """Write the state of the only rank."""
    folder.mkdir(exist_ok=True)  # as ranks do: the step folder is there
    torch.save({"v": 1, "moments": [torch.ones(4)]}, folder / "policy-rank-0-of-1.pt")


class Rank:
    """The policy, on another node."""

    def __init__(self, node_id: str) -> None:
        self.there = NodeAffinitySchedulingStrategy(node_id, soft=False)

    def save(self, folder: Path) -> dict[str, FileEntry]:
        """Write a Hugging Face folder over there."""
        return self._there(write_weights, folder)

    def save_state(self, folder: Path) -> dict[str, FileEntry]:
        """Write the state over there."""
        return self._there(write_state, folder)

    def _there(self, write: Callable[[Path], None], folder: Path) -> dict[str, FileEntry]:
        """Write, and hash nothing: whoever commits does."""
        ray.get(ray.remote(write).options(num_cpus=0, scheduling_strategy=self.there).remote(folder))
        return {}


def main(address: str, where: str, run_dir: Path, what: str, *settings: str) -> None:
    """Look at the disks, or save one step."""
    config = load("quickstart", [f"checkpoint.{setting}" for setting in settings]).config
    ray.init(address=address, configure_logging=False, log_to_driver=False)
    node_id = next(node["NodeID"] for node in ray.nodes() if node["NodeManagerAddress"] == where)
    other = Node(node_id=node_id, address=where, cpus=1, gpus=0)
    here = ray.get_runtime_context().get_node_id()
    nodes = ClusterNodes(here, [other], address=address, watch=Watch(), sink=MemorySink())
    if what == "check":
        check_storage(config, nodes, run_dir, MemorySink(), num_steps=4)
        return
    with RunCheckpoints(run_dir, {"policy": Rank(node_id)}, config, MemorySink(), nodes=nodes) as checkpoints:  # type: ignore[dict-item]  # nothing is saved in the background
        checkpoints.save(3, skipped_in_a_row={})


if __name__ == "__main__":
    try:
        main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), *sys.argv[4:])
    except OrzError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(int(error.exit_code))
