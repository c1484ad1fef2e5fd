"""A reward that is always the same: its likeliest cause, by what it is and what it was before."""

from __future__ import annotations

import numpy as np
import pytest

from orz_cli.findings import Severity
from orz_monitor.engine import judge
from orz_monitor.findings import Finding
from orz_monitor.simulated import as_run
from orz_monitor.stats import Array
from orz_monitor.testing import healthy_metrics

pytestmark = pytest.mark.unit

NUM_STEPS = 120
NOISE = 0.01 * np.random.default_rng(3).standard_normal(NUM_STEPS)


def found(reward: Array) -> Finding | None:
    """Return what is found of a reward that stands still in an otherwise healthy run."""
    metrics = healthy_metrics(NUM_STEPS, critic=False)
    del metrics["reward/solved_frac"]
    metrics["reward/mean"] = reward
    return next((finding for finding in judge(as_run(metrics)).findings if finding.code == "reward_floor"), None)


@pytest.mark.parametrize(
    ("value", "first_cause"),
    [
        (0.0, "the reward function never finds an answer in the responses"),
        (-1.0, "the reward function never finds an answer in the responses"),
        (0.3, "the reward function pays every response the same, right or wrong"),
        (1.7, "the reward function pays every response the same, right or wrong"),
    ],
)
def test_the_first_cause_fits_the_value(value: float, first_cause: str) -> None:
    """0, or -1 for all that is wrong, is what no answer gets; a part of the full reward is no such thing."""
    finding = found(np.full(NUM_STEPS, value))
    assert finding is not None
    assert (Severity.ERROR, True) == (finding.severity, finding.causes[0].what.startswith(first_cause))
    assert 1 == sum("the reward function" in cause.what for cause in finding.causes)


def test_a_reward_that_fell_to_where_it_stays_was_wrecked() -> None:
    """Whatever it fell to: the reward function paid more before."""
    reward = np.where(np.arange(NUM_STEPS) < 60, 0.6 + NOISE, 0.3)
    finding = found(reward)
    assert finding is not None
    assert finding.causes[0].what == "an update wrecked the policy: its learning rate is far too high"
