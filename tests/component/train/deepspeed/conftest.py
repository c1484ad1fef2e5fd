"""Steps of experience, the local backend's answers to them, and real DeepSpeed ranks that play them."""

from __future__ import annotations

import os
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
from torch import Tensor
from transformers import Qwen2ForSequenceClassification

from orz_train.algo.losses import LossReduction, token_weights
from orz_train.algo.segments import action_index
from orz_train.algorithm import load_algorithm
from orz_train.backends import hf
from orz_train.backends.local.models import LocalCritic, LocalPolicy
from orz_train.config.schema import Config
from orz_train.data.balancing import balance, minibatches
from orz_train.data.experience import Experience, assemble
from orz_train.data.packing import Packing, pack
from orz_train.testing import make_rollout, write_tiny_model
from orz_train.types import Estimates, PackedRow, Rollout, Targets, TrainRow

PLAY = Path(__file__).parent / "play.py"
PACKING = Packing(max_tokens=24)
KEPT = ("PYTHONPATH", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES")
"""Variables that a rank needs to find the packages and the driver of a GPU."""
Case = dict[str, Any]
"""See play.py."""
Record = dict[str, Any]
Shards = list[tuple[list[TrainRow], list[Tensor]]]
"""Of one update: for each rank its rows and their token weights."""


class Cases:
    """Makes cases for `play.py`, and the local models that play the same.

    Args:
        folder: where the tiny models are written.
    """

    def __init__(self, folder: Path) -> None:
        self.models = {
            "untied": write_tiny_model(folder / "untied"),
            "tied": write_tiny_model(folder / "tied", tied=True),
            "wide": write_tiny_model(folder / "wide", hidden=256, vocab_size=2048),
            "critic": folder / "critic",
            "reward": folder / "reward",
        }
        self.tokenizer = hf.load_tokenizer(str(self.models["untied"]))
        critic = hf.load_critic(str(self.models["untied"]), dtype="float32")
        generator = torch.Generator().manual_seed(5)
        with torch.no_grad():  # a head that isn't 0, so that values differ
            head = hf.value_head(critic).weight
            head.copy_(torch.randn(head.shape, generator=generator) * 0.1)
        hf.save_model(critic, self.tokenizer, self.models["critic"])
        self.reward = Qwen2ForSequenceClassification.from_pretrained(self.models["untied"], num_labels=1).eval()
        self.reward.config.pad_token_id = None  # it would take trailing <pad> for padding
        hf.save_model(self.reward, self.tokenizer, self.models["reward"])
        self.rollouts = make_rollouts()
        self.experience = self._experience()

    def config(
        self,
        *,
        stage: int,
        policy: str = "untied",
        lr: float = 1e-3,
        offload: str = "none",
        reduction: str = "token_mean",
        num_gpus: int = 0,
        algorithm: str = "ppo",
        **trained: Any,
    ) -> Config:
        """Configure a run, with a critic if it is PPO's; `trained` are settings of both models."""
        settings = {"optimizer": {"lr": lr, "weight_decay": 0.1}, **trained}
        critic = {"model": str(self.models["critic"]), **settings} if algorithm == "ppo" else None
        return Config.model_validate(
            {
                "name": "test",
                "steps": 100,
                "prompts_per_step": 12,
                "samples_per_prompt": 2,
                "data": {"source": "unused:unused"},
                "generation": {"max_response_tokens": 12},
                "policy": {"model": str(self.models[policy]), **settings},
                "critic": critic,
                "algorithm": algorithm,
                "packing": {"max_tokens_per_row": PACKING.max_tokens},
                "kl": {"loss_coef": 0.1},
                "loss": {"reduction": reduction},
                "cluster": {"num_gpus": num_gpus, "zero_stage": stage, "offload": offload},
            }
        )

    def case(
        self,
        name: str,
        role: str,
        config: Config,
        *,
        num_ranks: int,
        num_updates: int,
        num_samples: int | None = None,
        packing: Packing = PACKING,
    ) -> Case:
        """Write a case down: a pass over the experience, or its first samples, in so many updates."""
        parts = minibatches(self.experience.samples[:num_samples], num_updates, seed=1, step=1)
        rows = pack(self.rollouts, PACKING)
        rows += rows[: -len(rows) % num_ranks]
        return {
            "name": name,
            "role": role,
            "config": config,
            "updates": [self._deal(samples, num_ranks, config.loss.reduction, packing) for samples in parts],
            "score_rows": [rows[rank::num_ranks] for rank in range(num_ranks)],
        }

    def local(self, case: Case, folder: Path | None = None) -> LocalPolicy | LocalCritic:
        """Load the local backend's model of a case, or one from a folder."""
        config: Config = case["config"]
        if case["role"] == "policy":
            loaded = hf.load_causal_lm(str(folder or config.policy.model), dtype="float32")
            return LocalPolicy(loaded, self.tokenizer, load_algorithm(config), config, updates=100)
        assert config.critic is not None
        loaded = hf.load_critic(str(folder or config.critic.model), dtype="float32")
        return LocalCritic(loaded, self.tokenizer, load_algorithm(config), config, updates=100)

    def rewards(self, row: PackedRow) -> Tensor:
        """Score each sequence of a row alone, with transformers' own sequence classifier."""
        with torch.no_grad():
            return torch.cat([self.reward(ids[None]).logits[0] for ids in row.token_ids_T.split(row.seq_lens_S)])

    def _deal(self, samples: Sequence[Any], num_ranks: int, reduction: LossReduction, packing: Packing) -> Shards:
        """Deal the rows of an update to ranks, with the token weights of a mean over all of them."""
        shards = balance(replace(self.experience, packing=packing).pack(samples), num_ranks)
        segments = [row.row.segment_ids_T[action_index(row.row.action_mask_T)] for shard in shards for row in shard]
        weights = iter(token_weights(segments, reduction))
        return [(shard, [next(weights) for _ in shard]) for shard in shards]

    def _experience(self) -> Experience:
        """Estimate a step, with old log-probs and values a little off the present ones, so that ratios aren't 1."""
        config = self.config(stage=0)
        rows = pack(self.rollouts, PACKING)
        generator = torch.Generator().manual_seed(11)

        def noise(row: PackedRow, scale: float) -> Tensor:
            return torch.randn(len(row.token_ids_T), generator=generator) * scale * row.action_mask_T

        policy = LocalPolicy(
            hf.load_causal_lm(config.policy.model, dtype="float32"),
            self.tokenizer,
            load_algorithm(config),
            config,
            updates=100,
        )
        estimates = [
            Estimates(
                logprobs_T=logprobs_T + noise(row, 0.3),
                ref_logprobs_T=logprobs_T + noise(row, 0.3),
                values_T=noise(row, 0.3),
            )
            for row, logprobs_T in zip(rows, policy.logprobs(rows), strict=True)
        ]
        targets = [Targets(advantages_T=noise(row, 1.0), returns_T=noise(row, 1.0)) for row in rows]
        return assemble(self.rollouts, rows, estimates, targets, PACKING)


def make_rollouts() -> list[Rollout]:
    """Return 24 rollouts of unequal lengths."""
    generator = torch.Generator().manual_seed(3)
    made = []
    for index in range(24):
        prompt_len = int(torch.randint(1, 9, (), generator=generator))
        response_len = int(torch.randint(1, 13, (), generator=generator))
        ids = torch.randint(3, 44, (prompt_len + response_len,), generator=generator).tolist()
        made.append(make_rollout(ids[:prompt_len], ids[prompt_len:], group_index=index // 2, sample=index % 2))
    return made


def play_on(num_ranks: int, cases: Sequence[Case], folder: Path, device: str) -> dict[str, list[Record]]:
    """Play cases on real ranks, on "cpu" or "cuda"; return each case's records, by rank."""
    torch.save(list(cases), folder / "cases.pt")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = [start(rank, num_ranks, port, folder, device) for rank in range(num_ranks)]
    try:
        deadline = time.monotonic() + 1200
        while time.monotonic() < deadline and all(rank.poll() in {None, 0} for rank in ranks):
            if all(rank.poll() == 0 for rank in ranks):
                break
            time.sleep(0.1)
    finally:
        ended = [rank.poll() for rank in ranks]
        for rank in ranks:
            rank.kill()
            rank.wait()
    logs = "\n".join(f"rank {rank}:\n{log(folder, rank).read_text()[-3000:]}" for rank in range(num_ranks))
    assert [0] * num_ranks == ended, logs
    return {
        case["name"]: [torch.load(folder / f"{case['name']}-{r}.pt", weights_only=False) for r in range(num_ranks)]
        for case in cases
    }


def start(rank: int, num_ranks: int, port: int, folder: Path, device: str) -> subprocess.Popen[bytes]:
    """Start a rank in an environment without a compiler."""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    chosen = {"DS_ACCELERATOR": "cpu"} if device == "cpu" else {}
    with log(folder, rank).open("wb") as stream:
        return subprocess.Popen(
            [sys.executable, str(PLAY), str(rank), str(num_ranks), str(port), str(folder), device],
            stdout=stream,
            stderr=subprocess.STDOUT,
            env={"PATH": "/nowhere", "HOME": str(folder), "OMP_NUM_THREADS": "1", **kept, **chosen},
        )


def log(folder: Path, rank: int) -> Path:
    """Return where a rank's output goes."""
    return folder / f"rank-{rank}.log"


@pytest.fixture(scope="session")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Cases:
    """Return the maker of cases, with its tiny models."""
    with hf.quiet():
        return Cases(tmp_path_factory.mktemp("deepspeed-models"))


@pytest.fixture(scope="session")
def play(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, list[Record]]]:
    """Return a function that plays cases on so many ranks."""

    def on(num_ranks: int, cases: Sequence[Case], device: str = "cpu") -> dict[str, list[Record]]:
        return play_on(num_ranks, cases, tmp_path_factory.mktemp(f"deepspeed-{num_ranks}-{device}"), device)

    return on
