"""One rank of a real DeepSpeed run: plays the cases that a test wrote down and records what came of them.

    python play.py RANK NUM_RANKS PORT FOLDER cpu|cuda

Reads FOLDER/cases.pt, a list of dictionaries; writes FOLDER/<name>-<rank>.pt for each. A case has a `name`, a `role`,
a `config` and `score_rows` (for each rank, rows to score); policy and critic have `updates` (for each update and
each rank, rows and token weights) and perhaps a `resume_after`: the number of updates after which a checkpoint is
written, from which the rest is then played once more by a model loaded anew. With `naps`, the model leaves its GPU
and comes back after every update. A reward model has a `folder`.
"""

from __future__ import annotations

import gc
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from deepspeed.utils import safe_get_full_grad
from torch import Tensor

from orz_train.backends.deepspeed.load import load_critic, load_policy, load_reference, load_reward_model
from orz_train.backends.deepspeed.models import DeepSpeedCritic, DeepSpeedPolicy
from orz_train.backends.deepspeed.process import join, leave
from orz_train.backends.deepspeed.settings import WEIGHTS_SHARDED
from orz_train.errors import BackendMissingError, CheckpointError

GROUP_BYTES = 20_000
Model = DeepSpeedPolicy | DeepSpeedCritic
Case = dict[str, Any]


def load(case: Case, checkpoint: Path | None) -> Model:
    """Load the case's model."""
    loader: Callable[..., Model] = load_policy if case["role"] == "policy" else load_critic
    return loader(case["config"], num_steps=100, checkpoint=checkpoint)


def score(model: Model, rows: list[Any]) -> list[Any]:
    """Return log-probs or values."""
    return model.logprobs(rows) if isinstance(model, DeepSpeedPolicy) else model.values(rows)


def host_copy(tensor: Tensor) -> Tensor:
    """Copy a tensor to the CPU's memory, so that what is recorded takes no room on a GPU."""
    return tensor.to("cpu", copy=True)


def nap(model: Model) -> dict[str, int]:
    """Send a model off its GPU and fetch it back; return the bytes that this process held there, awake and asleep."""
    awake = torch.cuda.memory_allocated()
    model.offload()
    asleep = torch.cuda.memory_allocated()
    model.onload()
    return {"awake": awake, "asleep": asleep}


def watch_gradients(model: Model) -> list[dict[str, Tensor]]:
    """Record the whole gradient of every step, after reduction and before clipping."""
    seen: list[dict[str, Tensor]] = []
    step = model.engine.module.optimizer.step

    def watched(*args: Any, **kwargs: Any) -> Any:
        seen.append({name: host_copy(safe_get_full_grad(p)) for name, p in model.engine.parameters.items()})
        return step(*args, **kwargs)

    model.engine.module.optimizer.step = watched
    return seen


def snapshot(model: Model) -> dict[str, Any]:
    """Copy the whole weights, this rank's masters and optimizer state, and the count of updates."""
    engine = model.engine
    held = sum(parameter.numel() for parameter in engine.parameters.values())
    with engine.gathered(list(engine.parameters)) as named:
        weights = {name: host_copy(tensor) for name, tensor in named}
    masters = engine.masters()
    return {
        "held": held,
        "weights": weights,
        "masters": [host_copy(master.detach()) for master in masters],
        "moments": [{key: host_copy(x) for key, x in engine.adamw.state.get(m, {}).items()} for m in masters],
        "updates": engine.updates,
    }


def spoil_padding(model: Model) -> int:
    """Put a NaN wherever ZeRO-3 pads this rank's masters and moments, as memory may hold one; return how many."""
    engine, spoiled = model.engine, 0
    if engine.cluster.zero_stage < WEIGHTS_SHARDED:
        return spoiled
    for master, group in zip(engine.masters(), engine.module.optimizer.fp16_groups, strict=True):
        begin = 0
        for parameter in group:
            end = begin + parameter.ds_tensor.numel()
            own = max(parameter.ds_numel - engine.rank * (end - begin), 0)
            for tensor in (master.data, *engine.adamw.state[master].values()):
                if tensor.shape == master.shape:
                    spoiled += len(tensor[begin + own : end])
                    tensor[begin + own : end] = math.nan
            begin = end
    return spoiled


def train(case: Case, rank: int, folder: Path) -> dict[str, Any]:
    """Play a policy's or critic's case."""
    gc.collect()
    before = torch.cuda.memory_allocated()
    model = load(case, None)
    record: dict[str, Any] = {"naps": [{"before": before}]}
    record |= {"scores": score(model, case["score_rows"][rank]), "params": model.params()}
    record["gradients"] = watch_gradients(model)
    record["metrics"], record["after"] = [], []
    checkpoint = folder / f"checkpoint-{case['name']}"
    for index, shards in enumerate(case["updates"], start=1):
        record["metrics"].append(model.update(*shards[rank]))
        record["after"].append(snapshot(model))
        if case.get("naps"):
            record["naps"].append(nap(model))
        if index == case.get("resume_after"):
            for name in (case["role"], "state"):
                (checkpoint / name).mkdir(parents=True, exist_ok=True)
            model.save(checkpoint / case["role"])
            record["padding"] = spoil_padding(model)
            model.save_state(checkpoint / "state")
            background = checkpoint.with_name(f"{checkpoint.name}-background")
            background.mkdir(exist_ok=True)
            model.snapshot()
            model.write_snapshot(background / case["role"], background / "state")  # during the next update
    if "resume_after" in case:
        record["background"] = {name: entry.digest for name, entry in model.finish_snapshot().items()}
        model.drop_snapshot()
    record["bucket"] = model.bucket(list(model.engine.parameters))
    if isinstance(model, DeepSpeedPolicy):
        record["groups"] = [[(name, host_copy(x)) for name, x in group] for group in list(model.weights(GROUP_BYTES))]
    model.offload()
    model.onload()
    model.close()
    if "resume_after" in case:
        record["checkpoint"] = checkpoint
        record["resumed"] = resume(case, checkpoint, rank)
        if not case.get("naps"):
            record["refused_state"] = refused_state(case, checkpoint, folder / f"{case['name']}-of-7")
    return record


def resume(case: Case, checkpoint: Path, rank: int) -> dict[str, Any]:
    """Play the rest of a case from its checkpoint."""
    model = load(case, checkpoint)
    for shards in case["updates"][case["resume_after"] :]:
        model.update(*shards[rank])
    after = snapshot(model)
    model.close()
    return after


def refused_state(case: Case, checkpoint: Path, other: Path) -> list[str]:
    """Resume under another stage, from another number of ranks, and from nothing; return what is said of each."""
    said = []
    config = case["config"]
    stage = {"zero_stage": (config.cluster.zero_stage + 1) % 4}
    model = load(
        {**case, "config": config.model_copy(update={"cluster": config.cluster.model_copy(update=stage)})}, None
    )
    (other / "state").mkdir(parents=True, exist_ok=True)
    (other / "state" / f"{case['role']}-rank-0-of-7.pt").touch()
    for folder in (checkpoint / "state", other / "state", other):
        try:
            model.load_state(folder)
        except CheckpointError as error:
            said.append(str(error))
    model.close()
    return said


def play(case: Case, rank: int, folder: Path) -> dict[str, Any]:
    """Play one case on this rank."""
    rows = case["score_rows"][rank]
    match case["role"]:
        case "reference":
            reference = load_reference(case["config"])
            reference.offload()
            reference.onload()
            return {"scores": reference.logprobs(rows)}
        case "reward":
            model = load_reward_model(str(case["folder"]), case["config"].cluster, dtype="float32")
            return {"scores": model.scores(rows)}
    return train(case, rank, folder)


def main(rank: int, num_ranks: int, port: int, folder: Path, device: str) -> None:
    """Play all cases on the device; the other one is refused first."""
    refused = ""
    try:
        join(rank, num_ranks, "127.0.0.1", port, cpu=device != "cpu", timeout_s=120)
    except BackendMissingError as error:
        refused = str(error)
    join(rank, num_ranks, "127.0.0.1", port, cpu=device == "cpu", timeout_s=120)
    for case in torch.load(folder / "cases.pt", weights_only=False):
        record = play(case, rank, folder)
        record |= {"refused_device": refused, "compiled": [str(path) for path in Path.home().rglob("*.so")]}
        torch.save(record, folder / f"{case['name']}-{rank}.pt")
    leave()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]), sys.argv[5])
