"""One rank of a real DeepSpeed run: plays the cases that a test wrote down and records what came of them.

    python play.py RANK NUM_RANKS PORT FOLDER

Reads FOLDER/cases.pt, a list of dictionaries; writes FOLDER/<name>-<rank>.pt for each. A case has a `name`, a `role`,
a `config`, `updates` (for each update and each rank, rows and token weights), `score_rows` (for each rank), and
perhaps a `resume_after`: the number of updates after which a checkpoint is written, from which the rest is then
played once more by models loaded anew.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from deepspeed.utils import safe_get_full_grad
from torch import Tensor

from orz_train.backends.deepspeed.engine import TrainingEngine
from orz_train.backends.deepspeed.load import load_critic, load_policy
from orz_train.backends.deepspeed.models import DeepSpeedCritic, DeepSpeedPolicy
from orz_train.backends.deepspeed.process import join, leave

Model = DeepSpeedPolicy | DeepSpeedCritic


def load(case: dict[str, Any], checkpoint: Path | None) -> Model:
    """Load the case's model."""
    loader: Callable[..., Model] = load_policy if case["role"] == "policy" else load_critic
    return loader(case["config"], num_steps=100, checkpoint=checkpoint)


def watch_gradients(engine: TrainingEngine) -> list[dict[str, Tensor]]:
    """Record the whole gradient of every step, after reduction and before clipping."""
    seen: list[dict[str, Tensor]] = []
    step = engine.module.optimizer.step

    def watched(*args: Any, **kwargs: Any) -> Any:
        seen.append({name: safe_get_full_grad(p).clone() for name, p in engine.parameters.items()})
        return step(*args, **kwargs)

    engine.module.optimizer.step = watched
    return seen


def weights(model: Model) -> dict[str, Tensor]:
    """Copy the whole weights."""
    with model.engine.gathered(list(model.engine.parameters)) as named:
        return {name: tensor.clone() for name, tensor in named}


def moments(model: Model) -> list[dict[str, Tensor]]:
    """Copy this rank's optimizer state."""
    adamw = model.engine.adamw
    return [{key: x.clone() for key, x in adamw.state.get(p, {}).items()} for p in model.engine.masters()]


def masters(model: Model) -> list[Tensor]:
    """Copy what the optimizer works on."""
    return [master.detach().clone() for master in model.engine.masters()]


def score(model: Model, rows: list[Any]) -> Any:
    """Return log-probs or values."""
    return model.logprobs(rows) if isinstance(model, DeepSpeedPolicy) else model.values(rows)


def play(case: dict[str, Any], rank: int, folder: Path) -> dict[str, Any]:
    """Play one case on this rank."""
    model = load(case, None)
    record: dict[str, Any] = {"scores": score(model, case["score_rows"][rank]), "params": model.params()}
    gradients = watch_gradients(model.engine)
    record["updates"] = []
    checkpoint = folder / case["name"] / f"step_{case.get('resume_after', 0):06d}"
    for index, shards in enumerate(case["updates"]):
        rows, token_weights = shards[rank]
        metrics = model.update(rows, token_weights)
        record["updates"].append({"metrics": metrics, "weights": weights(model), "moments": moments(model)})
        if index + 1 == case.get("resume_after"):
            for name in (case["role"], "state"):
                (checkpoint / name).mkdir(parents=True, exist_ok=True)
            model.save(checkpoint / case["role"])
            model.save_state(checkpoint / "state")
    record["gradients"] = gradients
    record["masters"] = masters(model)
    record["bucket"] = model.bucket(list(model.engine.parameters)[:3])
    model.close()
    if "resume_after" in case:
        model = load(case, checkpoint)
        for shards in case["updates"][case["resume_after"] :]:
            rows, token_weights = shards[rank]
            model.update(rows, token_weights)
        record["resumed"] = {"weights": weights(model), "moments": moments(model), "masters": masters(model)}
        record["resumed_updates"] = model.engine.updates
        model.close()
    return record


def main(rank: int, num_ranks: int, port: int, folder: Path) -> None:
    """Play all cases."""
    join(rank, num_ranks, "127.0.0.1", port, cpu=True, timeout_s=120)
    for case in torch.load(folder / "cases.pt", weights_only=False):
        torch.save(play(case, rank, folder), folder / f"{case['name']}-{rank}.pt")
    leave()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
