"""Runs of orz-train that are made sick on purpose: each is called sick, with the right cause first."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import pytest
from torch import nn

from orz_cli.findings import Severity
from orz_monitor.engine import Verdict
from orz_monitor.judge import Judge
from orz_monitor.loading import load_run
from orz_train.backends.local.generator import LocalGenerator
from orz_train.config.load import load
from orz_train.launch import run as train

pytestmark = pytest.mark.component

SMALL = [
    "backend=local",
    "prompts_per_step=4",
    "samples_per_prompt=8",
    "eval.every_steps=0",
    "checkpoint.every_steps=1000",
    "reward.workers=1",
]
"""A run of the quickstart in one process, a second a step; its last step is saved."""
HACKED = '''
from orz_train.types import Score


def reward(prompt, rollout):
    """Pay a little for the answer in the form that was asked for, and more for every token that is left out."""
    right = float("<answer>" in rollout.text and prompt.answer in rollout.text)
    brevity = 4 - rollout.response_len / 4
    return Score(reward=0.4 * right + brevity, parts={"right": right, "brevity": brevity})
'''


def trained(folder: Path, *settings: str) -> Verdict:
    """Train the small run with some settings, and judge it by its records."""
    config = load("quickstart-grpo", [*SMALL, *settings]).config
    assert train(config, run_dir=folder) == 0
    return Judge.of()(load_run(folder), folder)


def test_a_learning_rate_100_times_too_high(tmp_path: Path) -> None:
    """The first update ends all reward; the reward function worked before, so it is not what is blamed."""
    verdict = trained(tmp_path / "run", "steps=16", "policy.optimizer.lr=1.5e-2")
    worst = verdict.findings[0]
    assert ("reward_floor", Severity.ERROR) == (worst.code, worst.severity)
    assert "learning rate is far too high" in worst.causes[0].what
    assert worst.first_step is not None
    assert worst.first_step <= 6


def test_weights_that_never_reach_the_sampler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sampler keeps the first weights: the gap between its log-probs and the trainer's grows step by step."""
    begin = LocalGenerator.__init__

    def with_a_copy(self: LocalGenerator, model: nn.Module, *args: object, **options: object) -> None:
        begin(self, copy.deepcopy(model), *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(LocalGenerator, "__init__", with_a_copy)
    verdict = trained(tmp_path / "run", "steps=24")
    worst = verdict.findings[0]
    assert ("mismatch", Severity.ERROR) == (worst.code, worst.severity)
    assert worst.causes[0].what == "the sampler runs with stale or wrongly loaded weights"


def test_a_reward_that_pays_for_something_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One part of the reward rises while the other falls: the finding names both, and calls it gamed."""
    (tmp_path / "hacked.py").write_text(HACKED)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    verdict = trained(tmp_path / "run", "steps=32", "policy.optimizer.lr=2.2e-4", "reward.function=hacked:reward")
    worst = next(finding for finding in verdict.findings if finding.severity is not Severity.INFO)
    assert ("reward_hack", Severity.WARN) == (worst.code, worst.severity)
    assert "reward/part/brevity rose" in worst.message
    assert "reward/part/right fell" in worst.message
    assert "pays whatever the answer" in worst.causes[0].what
