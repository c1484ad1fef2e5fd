"""Ramps of the KL between sampler and trainer: near 0, of either sign, printed with few digits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from orz_cli.findings import Severity
from orz_monitor.engine import judge
from orz_monitor.findings import Finding
from orz_monitor.loading import load_run
from orz_monitor.simulated import as_run
from orz_monitor.simulated_faults import left_band
from orz_monitor.stats import Array
from orz_monitor.testing import healthy_metrics

pytestmark = pytest.mark.unit

NUM_STEPS = 120
AT = 80
"""Where ramps begin."""
NOISE = np.random.default_rng(23).standard_normal(NUM_STEPS)


def ramp(rate: float) -> Array:
    return np.asarray(np.exp(rate * np.clip(np.arange(NUM_STEPS) - AT + 1, 0, None)))


def found(metric: str, values: Array) -> Finding | None:
    """Return the ramp that is found in a metric of an otherwise healthy run of as many steps."""
    metrics = healthy_metrics(len(values), critic=False) | {metric: values}
    ramps = [one for one in judge(as_run(metrics, finished=False)).findings if one.code == "ramp"]
    return next((one for one in ramps if one.evidence[0].metric == metric), None)


@pytest.mark.parametrize("metric", ["mismatch/kl_k3", "mismatch/kl_k1"])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("level", "sigma"), [(0.0017, 0.03), (0.0003, 0.2)])
def test_a_divergence_that_leaves_its_band_is_found_within_ten_steps(
    metric: str, sign: int, level: float, sigma: float
) -> None:
    """By a tenth a step, long before 0.01 nats, at which it has grown; and not before it begins."""
    usual = sign * level * (1 + sigma * NOISE)
    values = usual * ramp(0.1)
    left = left_band(usual, values, AT)
    assert found(metric, values[:AT]) is None
    finding = found(metric, values[: left + 10])
    assert finding is not None
    assert Severity.WARN is finding.severity
    assert AT <= (finding.first_step or 0) <= left + 5


def test_a_divergence_with_noise_around_zero_is_none() -> None:
    """Of either sign, a thousandth of a nat in size, and single leaps of ten times that."""
    values = 1e-3 * np.random.default_rng(29).standard_normal(NUM_STEPS)
    assert found("mismatch/kl_k1", values) is None
    values[[50, 85, 110]] = 0.01
    assert found("mismatch/kl_k1", values) is None


def test_a_divergence_too_small_to_matter_is_none() -> None:
    """Twentyfold, from a millionth of a nat."""
    assert found("mismatch/kl_k3", 1e-6 * (1 + 0.03 * NOISE) * np.minimum(ramp(0.1), 20)) is None


def log_with(folder: Path, values: Array) -> Path:
    """A log of prime-rl's trainer, whose KL has four decimals."""
    line = "22:30:59 SUCCESS Step {} |  59.9s | Loss -0.0067 | Entropy 0.6054 | Mismatch KL {:.4f} | Grad. Norm 0.2688"
    line += " | LR 1.00e-06 | Throughput 8712 tokens/s | MFU 5.4% | Peak Mem. 89.6 GiB\n"
    (folder / "trainer.log").write_text("".join(line.format(step, value) for step, value in enumerate(values)))
    return folder / "trainer.log"


@pytest.mark.parametrize(
    ("level", "ends", "is_found"), [(1e-4, 4e-4, False), (1e-4, 2e-3, True), (1.4e-4, 3e-4, False)]
)
def test_a_divergence_of_few_digits_changes_by_more_than_those(
    tmp_path: Path, level: float, ends: float, is_found: bool
) -> None:
    """Printed as 0.0001, its noise is a digit: six of them have to come together, and not 1.25 times or four."""
    values = np.full(NUM_STEPS, level)
    values[AT:] = np.minimum(level * ramp(0.1)[AT:], ends)
    run = load_run(log_with(tmp_path, values))
    assert is_found == ("ramp" in {finding.code for finding in judge(run).findings})


def test_growth_that_is_an_error_speaks_for_its_ramp() -> None:
    """From 0.0017 to 0.09 nats: one finding of the divergence."""
    metrics = healthy_metrics(NUM_STEPS, critic=False) | {"mismatch/kl_k3": 0.0017 * (1 + 0.03 * NOISE) * ramp(0.1)}
    codes = [finding.code for finding in judge(as_run(metrics)).findings]
    assert (1, 0) == (codes.count("mismatch_measures"), codes.count("ramp"))
