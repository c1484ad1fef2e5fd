"""Steps of experience, the local backend's answers to them, and two real DeepSpeed ranks that play them."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from orz_train.algo.losses import token_weights
from orz_train.algo.segments import action_index
from orz_train.algorithm import load_algorithm
from orz_train.backends import hf
from orz_train.backends.local.models import LocalCritic, LocalPolicy
from orz_train.config.schema import Config
from orz_train.data.balancing import balance, minibatches
from orz_train.data.experience import Experience, assemble
from orz_train.data.packing import Packing, pack
from orz_train.testing import make_rollout, write_tiny_model
from orz_train.types import Estimates, PackedRow, Targets, TrainRow

PLAY = Path(__file__).parent / "play.py"
PACKING = Packing(max_tokens=24)
Shards = list[tuple[list[TrainRow], list[Tensor]]]


class Cases:
    """Makes cases for `play.py`, and the local models that answer the same.

    Args:
        folder: where the tiny models are written.
    """

    def __init__(self, folder: Path) -> None:
        self.models = {
            "untied": write_tiny_model(folder / "untied"),
            "tied": write_tiny_model(folder / "tied", tied=True),
            "critic": folder / "critic",
        }
        self.tokenizer = hf.load_tokenizer(str(self.models["untied"]))
        critic = hf.load_critic(str(self.models["untied"]), dtype="float32")
        generator = torch.Generator().manual_seed(5)
        with torch.no_grad():  # a head that isn't 0, so that values differ
            head = hf.value_head(critic).weight
            head.copy_(torch.randn(head.shape, generator=generator) * 0.1)
        hf.save_model(critic, self.tokenizer, self.models["critic"])
        self.experience = self._experience()

    def config(
        self,
        *,
        stage: int = 2,
        dtype: str = "float32",
        lr: float = 1e-3,
        policy: str = "untied",
        checkpointing: bool = False,
        offload: str = "none",
        max_grad_norm: float = 1.0,
    ) -> Config:
        """Configure a run with a critic."""
        trained = {
            "dtype": dtype,
            "gradient_checkpointing": checkpointing,
            "optimizer": {"lr": lr, "weight_decay": 0.1, "max_grad_norm": max_grad_norm},
        }
        return Config.model_validate(
            {
                "name": "test",
                "steps": 100,
                "prompts_per_step": 12,
                "samples_per_prompt": 2,
                "data": {"source": "unused:unused"},
                "generation": {"max_response_tokens": 12},
                "policy": {"model": str(self.models[policy]), **trained},
                "critic": {"model": str(self.models["critic"]), **trained},
                "packing": {"max_tokens_per_row": 24},
                "cluster": {"num_gpus": 0, "zero_stage": stage, "offload": offload},
            }
        )

    def case(self, name: str, role: str, config: Config, *, num_ranks: int, num_updates: int, **more: Any) -> dict[str, Any]:
        """Write a case down: a pass over the experience in so many updates."""
        parts = minibatches(self.experience.samples, num_updates, seed=1, step=1)
        updates = [deal(self.experience.pack(samples), num_ranks) for samples in parts]
        rows = pack(self.rollouts(), PACKING)
        rows += rows[: -len(rows) % num_ranks]
        return {
            "name": name,
            "role": role,
            "config": config,
            "updates": updates,
            "score_rows": [rows[rank::num_ranks] for rank in range(num_ranks)],
            **more,
        }

    def local(self, case: dict[str, Any], model: Path | None = None) -> LocalPolicy | LocalCritic:
        """Load the local backend's model of a case."""
        config: Config = case["config"]
        if case["role"] == "policy":
            loaded = hf.load_causal_lm(str(model or config.policy.model), dtype="float32")
            return LocalPolicy(loaded, self.tokenizer, load_algorithm(config), config, updates=100)
        assert config.critic is not None
        loaded = hf.load_critic(str(model or config.critic.model), dtype="float32")
        return LocalCritic(loaded, self.tokenizer, load_algorithm(config), config, updates=100)

    @staticmethod
    def rollouts() -> list[Any]:
        """Return 24 rollouts of unequal lengths."""
        generator = torch.Generator().manual_seed(3)
        made = []
        for index in range(24):
            prompt_len = int(torch.randint(1, 9, (), generator=generator))
            response_len = int(torch.randint(1, 13, (), generator=generator))
            ids = torch.randint(3, 44, (prompt_len + response_len,), generator=generator).tolist()
            made.append(make_rollout(ids[:prompt_len], ids[prompt_len:], group_index=index // 2, sample=index % 2))
        return made

    def _experience(self) -> Experience:
        """Estimate a step, with old log-probs and values a little off the present ones, so that ratios aren't 1."""
        rollouts = self.rollouts()
        rows = pack(rollouts, PACKING)
        generator = torch.Generator().manual_seed(11)

        def noise(row: PackedRow, scale: float) -> Tensor:
            return torch.randn(len(row.token_ids_T), generator=generator) * scale * row.action_mask_T

        reference = self.case_free_policy()
        estimates = [
            Estimates(logprobs_T=logprobs_T + noise(row, 0.3), values_T=noise(row, 0.3))
            for row, logprobs_T in zip(rows, reference.logprobs(rows), strict=True)
        ]
        targets = [Targets(advantages_T=noise(row, 1.0), returns_T=noise(row, 1.0)) for row in rows]
        return assemble(rollouts, rows, estimates, targets, PACKING)

    def case_free_policy(self) -> LocalPolicy:
        """Load the untied policy for the local backend."""
        config = self.config()
        loaded = hf.load_causal_lm(config.policy.model, dtype="float32")
        return LocalPolicy(loaded, self.tokenizer, load_algorithm(config), config, updates=100)


def deal(rows: Sequence[TrainRow], num_ranks: int) -> Shards:
    """Deal rows to ranks with each row's token weights, those of a mean over all of them."""
    shards = balance(rows, num_ranks)
    flat = [row for shard in shards for row in shard]
    segments = [row.row.segment_ids_T[action_index(row.row.action_mask_T)] for row in flat]
    weights = iter(token_weights(segments, "token_mean"))
    return [(shard, [next(weights) for _ in shard]) for shard in shards]


def poisoned(shards: Shards) -> Shards:
    """Make the loss of the last rank NaN, and so its gradient."""
    rows, weights = shards[-1]
    assert any(len(weights_K) for weights_K in weights)
    return [*shards[:-1], (rows, [torch.full_like(weights_K, torch.nan) for weights_K in weights])]


def local_rows(shards: Shards) -> list[list[TrainRow]]:
    """Return the shards as the local backend takes them."""
    return [rows for rows, _ in shards]


def gradient(model: nn.Module) -> dict[str, Tensor]:
    """Copy the accumulated gradient of a model."""
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def play_on(folder: Path, num_ranks: int, cases: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Play cases on real ranks; return each case's records, by rank."""
    torch.save(list(cases), folder / "cases.pt")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    logs = [(folder / f"rank-{rank}.log") for rank in range(num_ranks)]
    processes = []
    for rank, log in enumerate(logs):
        with log.open("w") as stream:
            processes.append(
                subprocess.Popen(
                    [sys.executable, str(PLAY), str(rank), str(num_ranks), str(port), str(folder)],
                    stdout=stream,
                    stderr=subprocess.STDOUT,
                    env={"PATH": "/nothing", "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "HOME": str(folder)},
                )
            )
    try:
        deadline = time.monotonic() + 600
        while any(process.poll() is None for process in processes):
            failed = [rank for rank, process in enumerate(processes) if process.poll()]
            if failed or time.monotonic() > deadline:
                time.sleep(1)  # for the others to fail as well, if they do
                break
            time.sleep(0.1)
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
            process.wait()
    for rank, process in enumerate(processes):
        assert process.returncode == 0, f"rank {rank}:\n{logs[rank].read_text()[-4000:]}"
    return {
        case["name"]: [torch.load(folder / f"{case['name']}-{r}.pt", weights_only=False) for r in range(num_ranks)]
        for case in cases
    }


@pytest.fixture(scope="session")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Cases:
    """Return the maker of cases, with its tiny models."""
    with hf.quiet():
        return Cases(tmp_path_factory.mktemp("deepspeed-models"))


@pytest.fixture(scope="session")
def play(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, list[dict[str, Any]]]]:
    """Return a function that plays cases on so many ranks."""

    def on(num_ranks: int, cases: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
        return play_on(tmp_path_factory.mktemp(f"deepspeed-{num_ranks}"), num_ranks, cases)

    return on
