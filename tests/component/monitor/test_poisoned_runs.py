"""Runs of `orz train` that are made sick on purpose: each is called sick, with the right cause first."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from orz_cli.findings import Severity
from orz_monitor.engine import Verdict, judge
from orz_monitor.loading import load_run

pytest.importorskip("orz_train")
pytestmark = pytest.mark.component

TINY = (
    "backend=local",
    "local.num_threads=1",
    "prompts_per_step=4",
    "samples_per_prompt=4",
    "eval.every_steps=0",
    "checkpoint.every_steps=1000",
)
SCRIPT = """
import copy
import sys

from orz_cli.main import main

if __name__ == "__main__":  # workers of the reward pool import this file, too
    if sys.argv.pop(1) == "stale":
        from orz_train.backends.local.generator import LocalGenerator

        init = LocalGenerator.__init__

        def with_its_own_weights(self, model, tokenizer, **settings):
            init(self, copy.deepcopy(model), tokenizer, **settings)

        LocalGenerator.__init__ = with_its_own_weights
    sys.exit(main(sys.argv[1:]))
"""


def trained(tmp_path: Path, recipe: str, *settings: str, poison: str = "none") -> Verdict:
    """Train, and judge what came of it."""
    script = tmp_path / "train.py"
    script.write_text(SCRIPT, encoding="utf-8")
    command = [
        sys.executable,
        str(script),
        poison,
        "train",
        recipe,
        *TINY,
        *settings,
        "--run-dir",
        str(tmp_path / "run"),
    ]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, cwd=tmp_path)
    assert (tmp_path / "run/metrics.jsonl").is_file(), ended.stderr[-2000:]
    return judge(load_run(tmp_path / "run"))


def test_a_learning_rate_a_hundred_times_too_high(tmp_path: Path) -> None:
    """The reward is gone after the first update, and the size of the update is named first."""
    verdict = trained(tmp_path, "quickstart", "steps=13", "policy.optimizer.lr=1.5e-2")
    worst = verdict.findings[0]
    assert ("reward_floor", Severity.ERROR) == (worst.code, worst.severity)
    assert worst.causes[0].what == "an update was too large, and the policy broke"
    assert "policy.optimizer.lr" in worst.causes[0].try_


def test_weights_that_do_not_reach_the_sampler(tmp_path: Path) -> None:
    """The sampler keeps its first weights: what it says of its tokens and what the trainer says drift apart."""
    verdict = trained(tmp_path, "quickstart-grpo", "steps=6", "policy.optimizer.lr=1e-3", poison="stale")
    worst = verdict.findings[0]
    assert ("mismatch", Severity.ERROR) == (worst.code, worst.severity)
    assert worst.causes[0].what == "the sampler runs with stale or wrongly loaded weights"
