"""A user's code, as mypy sees it: nothing here runs, everything has to type-check under --strict."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from torch import Tensor

from orz_ckpt.verify import verify
from orz_cli.findings import Status
from orz_monitor.engine import judge
from orz_monitor.loading import load_run
from orz_train.algorithm import GRPO
from orz_train.config.load import load
from orz_train.launch import run
from orz_train.testing import check_reward, make_rollout
from orz_train.types import Prompt, Rollout, Score


def reward(prompt: Prompt, rollout: Rollout) -> float:
    """Write a reward."""
    return float(prompt.answer in rollout.text)


async def scored(prompt: Prompt, rollout: Rollout) -> Score:
    """Write one that waits, with parts."""
    return Score(reward=reward(prompt, rollout), parts={"brief": float(rollout.response_len < 100)})


def rows(split: str) -> Iterable[Prompt]:
    """Write a dataset."""
    yield Prompt(prompt_id=f"{split}:0", text="1+1=", token_ids=(), answer="2")


class Centred(GRPO):
    """Write an algorithm."""

    def shaped_rewards(self, rollouts: Sequence[Rollout], scores: Sequence[Score]) -> tuple[Tensor, Tensor]:
        """Take the mean of the step off."""
        rewards_N, valid_N = super().shaped_rewards(rollouts, scores)
        return rewards_N - rewards_N.mean(), valid_N


def main() -> bool:
    """Train, verify and judge from Python."""
    check_reward(reward, [(next(iter(rows("train"))), make_rollout([1], [2], text="2"), 1.0)])
    run_dir = Path("runs") / "mine"
    exit_code: int = run(load("quickstart", ["steps=1"]).config, run_dir=run_dir)
    whole = verify(run_dir).status() is Status.OK
    findings = judge(load_run(run_dir)).findings
    return exit_code == 0 and whole and not findings
