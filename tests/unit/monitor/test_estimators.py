"""Which estimator a KL is of where the trainer's setting decides: by the setting, or by values that only k1 has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from orz_monitor.engine import judge
from orz_monitor.estimators import estimator_of
from orz_monitor.loading import load_run
from orz_monitor.run import Run
from orz_monitor.simulated import as_run
from orz_monitor.testing import healthy_metrics

pytestmark = pytest.mark.unit

VALUES = [0.002, -0.003, 0.004, -0.0011, 0.006] * 6
"""KL of a few thousandths by estimator k1: about half of it is below 0."""
VERL = "actor_rollout_ref.actor.kl_loss_type"
LINES = {
    "verl": "step:{step} - actor/kl_loss:{kl} - critic/score/mean:0.5{step:02}\n",
    "nemo-rl": "========================= Step {step}/30 =========================\n"
    "📊 Training Results:\n  • Loss: 0.01\n  • Generation KL Error: {kl}\n  • Avg Reward: 0.5{step:02}\n",
    "trl": "{{'loss': 0.01, 'learning_rate': 1e-06, 'reward': 0.5{step:02}, 'kl': {kl}, 'epoch': {step}.0}}\n",
    "orz": "2025-02-21 22:59:{step:02}.882 | INFO     | orz.ppo.trainer:train:173 - "
    "{{'policy_loss': 0.01, 'actor_lr': 1e-06, 'kl': {kl}, 'return': 0.5{step:02}}}\n",
}
METRICS = {"verl": "policy/kl_ref", "nemo-rl": "mismatch/kl_k3", "trl": "policy/kl_ref", "orz": "policy/kl_ref"}


def logged(folder: Path, trainer: str, values: list[float]) -> Run:
    """Read a log of 30 steps in which a trainer prints these values of KL."""
    path = folder / "train.log"
    path.write_text("".join(LINES[trainer].format(step=i, kl=kl) for i, kl in enumerate(values, 1)), encoding="utf-8")
    run = load_run(path)
    assert (trainer, len(values)) == (run.framework, len(run.series(METRICS[trainer])))
    return run


def says_impossible(run: Run) -> bool:
    """Tell whether a value is told to be one that cannot be."""
    return "invariants" in {finding.code for finding in judge(run).findings}


@pytest.mark.parametrize("trainer", LINES)
def test_a_negative_value_says_that_it_is_k1(tmp_path: Path, trainer: str) -> None:
    """Verl's kl_loss_type=kl, NeMo-RL's k1, TRL's RLOO, ORZ without use_kl_estimator_k3: no value is impossible."""
    run = logged(tmp_path, trainer, VALUES)
    assert ("k1", False) == (estimator_of(run, METRICS[trainer], 1e-3), says_impossible(run))


@pytest.mark.parametrize("trainer", LINES)
def test_without_negative_values_it_is_the_usual_one(tmp_path: Path, trainer: str) -> None:
    """Less than a thousandth below 0 is rounding."""
    run = logged(tmp_path, trainer, [0.002, -0.0005, 0.004] * 10)
    assert ("k3", False) == (estimator_of(run, METRICS[trainer], 1e-3), says_impossible(run))


@pytest.mark.parametrize(
    "values",
    [[-0.5] * 30, [-0.5, -0.45, -0.55] * 10, [0.002, 0.003] * 10 + [-5.0] + [0.002] * 9],
    ids=["all below", "all below with noise", "one far below"],
)
def test_values_that_no_estimator_has_are_told(tmp_path: Path, values: list[float]) -> None:
    """A mean of k1 over the policy's own samples is a KL: below 0 it is by noise alone."""
    assert says_impossible(logged(tmp_path, "verl", values))


@pytest.mark.parametrize(
    ("told", "estimator", "is_impossible"),
    [
        ("low_var_kl", "k3", True),
        ("k3", "k3", True),
        ("k3+", "k3", True),
        ("mse", "k2", True),
        ("abs", "abs", True),
        ("kl", "k1", False),
        ("k1", "k1", False),
        ("full", "", False),
    ],
)
def test_the_setting_decides_where_it_is_known(
    tmp_path: Path, told: str, estimator: str, *, is_impossible: bool
) -> None:
    """Then a negative k3 is still a bug of the metric."""
    run = replace(logged(tmp_path, "verl", VALUES), config={VERL: told})
    assert (estimator, is_impossible) == (estimator_of(run, "policy/kl_ref", 1e-3), says_impossible(run))


def test_what_no_setting_decides_stays_what_it_is() -> None:
    """A mismatch by k3 of our own is never negative, whatever the estimator of the KL to the reference."""
    metrics = healthy_metrics(30) | {"mismatch/kl_k3": np.array(VALUES)}
    run = replace(as_run(metrics), config={"kl.estimator": "k1"})
    assert ("", True) == (estimator_of(run, "mismatch/kl_k3", 1e-3), says_impossible(run))
