"""Responses that shrink to a few tokens: noted where the reward does not fall, and nothing where all is solved."""

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


def found(length: Array, reward: Array) -> Finding | None:
    """Return what is found of the length of an otherwise healthy run."""
    metrics = healthy_metrics(NUM_STEPS, critic=False)
    del metrics["reward/solved_frac"]
    metrics |= {"rollout/response_tokens_mean": length, "reward/mean": reward}
    return next((finding for finding in judge(as_run(metrics)).findings if finding.code == "length_collapse"), None)


def shrinking(to: float) -> Array:
    """300 tokens, and from step 40 to step 80 ever fewer, down to `to`."""
    shares = np.clip((np.arange(NUM_STEPS) - 40) / 40, 0, 1)
    return np.asarray(300 * (to / 300) ** shares * np.exp(NOISE), dtype=np.float64)


RISING = np.linspace(0.3, 0.7, NUM_STEPS) + NOISE
FALLING = RISING[::-1]
FLAT = 0.5 + NOISE
SOLVED = np.minimum(np.linspace(0.5, 1.4, NUM_STEPS), 0.97 + NOISE)


@pytest.mark.parametrize(
    ("to", "reward", "severity"),
    [
        (3.0, FLAT, Severity.INFO),
        (3.0, RISING, Severity.INFO),
        (3.0, FALLING, Severity.WARN),
        (100.0, FALLING, Severity.WARN),
        (100.0, FLAT, None),
        (100.0, RISING, None),
        (3.0, SOLVED, None),
    ],
    ids=["flat", "rising", "falling", "a third, falling", "a third, flat", "a third, rising", "solved"],
)
def test_responses_of_hardly_any_length_are_a_note(to: float, reward: Array, severity: Severity | None) -> None:
    """A third of the length is a finding where the reward falls; a hundredth is noted unless all is solved by it."""
    finding = found(shrinking(to), reward)
    assert severity == (finding.severity if finding is not None else None)
    if severity is Severity.INFO:
        assert finding is not None
        assert "while the reward is " in finding.message
        assert finding.caveat.startswith("A task that asks for a word or a number")
