"""Ramps of one percent a step: a trend follows them, so they are told against the level of 60 to 100 steps before."""

from __future__ import annotations

import numpy as np
import pytest

from orz_cli.findings import Severity
from orz_monitor.engine import judge
from orz_monitor.findings import Finding
from orz_monitor.simulated import as_run
from orz_monitor.simulated_faults import SLOW_RAMPS
from orz_monitor.stats import Array
from orz_monitor.testing import healthy_metrics

pytestmark = pytest.mark.unit

NUM_STEPS = 220
AT = 110
"""Where ramps begin."""


def noise(sigma: float) -> Array:
    return np.exp(sigma * np.random.default_rng(11).standard_normal(NUM_STEPS))


FLAT = 0.5 * noise(0.02)
RISING = np.linspace(0.2, 0.8, NUM_STEPS) * noise(0.02)


def ramp(level: float, rate: float) -> Array:
    """A level with noise of 3 % that changes by a share a step from step 110 on."""
    return np.asarray(level * noise(0.03) * (1 + rate) ** np.clip(np.arange(NUM_STEPS) - AT, 0, None), dtype=np.float64)


def found(metric: str, values: Array, reward: Array = FLAT) -> Finding | None:
    """Return the ramp that is found in one metric of an otherwise healthy run."""
    metrics = healthy_metrics(NUM_STEPS, critic=False)
    del metrics["reward/solved_frac"], metrics["policy/kl_ref"]  # a drift of KL would speak for all
    metrics |= {"reward/mean": reward, metric: values}
    findings = [one for one in judge(as_run(metrics)).findings if one.code == "ramp"]
    return next((one for one in findings if one.evidence[0].metric == metric), None)


@pytest.mark.parametrize("metric", ["mismatch/logprob_abs_mean", "mismatch/prob_abs_mean"])
@pytest.mark.parametrize("reward", [FLAT, RISING], ids=["flat", "rising"])
def test_a_gap_that_grows_by_a_percent_a_step_is_found(metric: str, reward: Array) -> None:
    """Sampler and trainer drift apart whatever the reward does; it left 1.25 times its level 23 steps in."""
    finding = found(metric, ramp(0.005, 0.01), reward)
    assert finding is not None
    assert finding.severity is Severity.WARN
    assert finding.first_step is not None
    assert AT + 15 <= finding.first_step <= AT + 32
    assert 0.0145 <= finding.evidence[0].observed <= 0.0155  # 0.005 * 1.01^109
    assert "its level 60 to 100 steps before" in finding.message


def test_a_gap_that_hardly_drifts_is_none() -> None:
    """A thousandth a step is less than a quarter in 100 steps; a level with noise alone is none either."""
    assert found("mismatch/logprob_abs_mean", ramp(0.005, 0.001)) is None
    assert found("mismatch/logprob_abs_mean", ramp(0.005, 0.0)) is None


@pytest.mark.parametrize(
    ("rate", "reward", "severity"),
    [(-0.012, FLAT, Severity.WARN), (-0.012, RISING, None), (-0.004, FLAT, None)],
    ids=["halves for nothing", "halves for a gain", "loses a third"],
)
def test_entropy_that_halves_slowly(rate: float, reward: Array, severity: Severity | None) -> None:
    """Entropy falls in healthy runs, too: it is what it was 60 to 100 steps ago, halved, while nothing is gained."""
    finding = found("policy/entropy", ramp(0.5, rate), reward)
    assert severity == (finding.severity if finding is not None else None)


@pytest.mark.parametrize(
    ("rate", "reward", "severity"),
    [(0.012, FLAT, Severity.INFO), (0.012, RISING, None), (0.004, FLAT, None)],
    ids=["doubles for nothing", "doubles for a gain", "grows by half"],
)
def test_responses_that_double_slowly(rate: float, reward: Array, severity: Severity | None) -> None:
    """A note while no more responses are cut, as for a fast ramp of the length; none where the reward pays for it."""
    finding = found("rollout/response_tokens_mean", ramp(300.0, rate), reward)
    assert severity == (finding.severity if finding is not None else None)


def test_slow_ramps_of_the_benchmark_are_slow() -> None:
    """Two and one percent a step, down for entropy and up for the others, with no other change of the metric."""
    for fault, rate in zip(SLOW_RAMPS, [-0.02, -0.01, 0.02, 0.01, 0.02, 0.01, 0.02, 0.01], strict=True):
        metrics = healthy_metrics(NUM_STEPS) | {fault.ramp: np.ones(NUM_STEPS)}
        fault.inject(metrics, AT)
        np.testing.assert_allclose(metrics[fault.ramp][[AT - 1, AT, AT + 9]], [1, np.exp(rate), np.exp(10 * rate)])
