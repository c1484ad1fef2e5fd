"""Stands in for a trainer whose rank 0 is not on the head node: actors save through `orz_ckpt.storage`.

`python stand_in_trainer.py ADDRESS NODE RUN STEP`, on the head. The driver writes what a driver writes (its own JSON,
and what the ranks' nodes say that they saved); the rank writes the weights where it is. It checks nothing beforehand.
"""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path

import numpy as np
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from safetensors.numpy import save_file

from orz_ckpt.formats.architectures import expected_tensors
from orz_ckpt.inventory import step_folder
from orz_ckpt.manifest import Manifest, dumps
from orz_ckpt.node_records import record_name
from orz_ckpt.storage import stage

CONFIG = {
    "architectures": ["Qwen2ForCausalLM"],
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


class Rank:
    """Rank 0: it has the weights, and saves them."""

    def save(self, run: str, step: int) -> tuple[str, Manifest]:
        """Save under the path as the configuration spells it; return this node's name and what was saved."""
        final = step_folder(Path(run), step).absolute()
        node = platform.node()
        with stage(final) as staged:
            policy = staged.path / "policy"
            policy.mkdir()
            (policy / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
            (policy / "tokenizer.json").write_text("{}", encoding="utf-8")
            random = np.random.default_rng(step)
            shapes = expected_tensors(CONFIG).required
            tensors = {name: random.standard_normal(shape, dtype="<f4") for name, shape in shapes.items()}
            save_file(tensors, policy / "model.safetensors")
            manifest = staged.commit(
                step=step,
                roles={"policy": "policy"},
                writer="stand-in 1.0",
                node=node,
                meta={"path": str(final), "nodes": [node]},
            )
        return node, manifest


def main(address: str, where: str, run: str, step: int) -> None:
    """Save one step."""
    ray.init(address=address, configure_logging=False, log_to_driver=False)
    node_id = next(node["NodeID"] for node in ray.nodes() if node["NodeManagerAddress"] == where)
    there = NodeAffinitySchedulingStrategy(node_id, soft=False)
    rank = ray.remote(Rank).options(num_cpus=0, scheduling_strategy=there).remote()
    node, manifest = ray.get(rank.save.remote(run, step))
    own = step_folder(Path(run), step)
    (own / ".orz").mkdir(parents=True)
    (own / "evaluation.json").write_text(json.dumps({"step": step, "accuracy": 0.5}), encoding="utf-8")
    (own / record_name(node)).write_text(dumps(manifest), encoding="utf-8")
    sys.stdout.write(f"step {step} saved to {own}\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
