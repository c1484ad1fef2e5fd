"""Healthy simulated runs are quiet; faults put into them are found soon. benchmarks/monitor_alarms.py does more."""

from __future__ import annotations

import numpy as np
import pytest

from orz_cli.findings import Severity
from orz_monitor.engine import judge
from orz_monitor.simulated import KINDS, as_run, healthy, only_probabilities
from orz_monitor.simulated_faults import FAULTS, delay, left_band, stall_found

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("kind", KINDS)
def test_healthy_runs_are_quiet(kind: str) -> None:
    """No warning in a run of 400 steps with a restart, as it grows; seeds that no threshold was fitted on."""
    metrics = healthy(400, seed=901, kind=kind)
    for end in range(40, 401, 40):
        run = as_run({name: values[:end] for name, values in metrics.items()}, restarts=(30,), finished=end == 400)
        loud = [(f.code, f.message) for f in judge(run).findings if f.severity is not Severity.INFO]
        assert loud == []


def test_a_healthy_run_of_verls_is_quiet() -> None:
    """It logs the gap of probabilities alone, which the rules then judge; it is below that of log-probs."""
    metrics = healthy(400, seed=907, kind="grpo")
    assert (metrics["mismatch/prob_abs_mean"] < metrics["mismatch/logprob_abs_mean"]).all()
    verdict = judge(as_run(only_probabilities(metrics)))
    assert "mismatch" in {rule.code for rule in verdict.passed}
    assert [(f.code, f.message) for f in verdict.findings if f.severity is not Severity.INFO] == []


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.name for fault in FAULTS])
def test_faults_are_found_within_ten_steps(fault: object) -> None:
    """At least as a warning; ramps, "ramp" among the rules, count from where they leave the run's own band."""
    assert isinstance(fault, type(FAULTS[0]))
    found = delay(healthy(160, seed=903, kind="ppo"), fault, 110)
    assert found is not None
    assert 1 <= found <= 10


def test_a_silence_is_found_at_three_step_times() -> None:
    """Or after ten minutes, if that is more; not before."""
    assert stall_found(healthy(60, seed=905))


def test_simulated_runs_depend_on_the_seed_alone() -> None:
    """The same seed makes the same run, another one another."""
    assert (healthy(50, seed=1)["reward/mean"] == healthy(50, seed=1)["reward/mean"]).all()
    assert (healthy(50, seed=1)["reward/mean"] != healthy(50, seed=2)["reward/mean"]).any()


def test_the_band_that_a_ramp_leaves() -> None:
    """Noise of 1 around 100 has a band of 6: a ramp of 2 a step leaves it in the fourth step (of +8)."""
    metrics = healthy(60, seed=7)["reward/mean"] * 0 + 100
    metrics[::2] += 1.4826**-1 * 2**0.5  # median absolute difference of neighbours / sqrt 2 * 1.4826 is 1
    ramp = metrics.copy()
    ramp[50:] = 100 + 2.0 * (1 + np.arange(10))
    assert left_band(metrics, ramp, 50) == 53
