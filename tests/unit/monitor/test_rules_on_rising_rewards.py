"""What a rising reward excuses: a level that is a warning, and never one that is an error."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from orz_cli.findings import Severity
from orz_monitor.engine import judge
from orz_monitor.findings import Finding
from orz_monitor.simulated import as_run
from orz_monitor.stats import Array
from orz_monitor.testing import healthy_metrics

pytestmark = pytest.mark.unit

NUM_STEPS = 160
STEPS = np.arange(NUM_STEPS)


def found(code: str, name: str, values: Array) -> Finding | None:
    """Judge a run whose reward rises to its end, and is far from full there."""
    metrics = healthy_metrics(NUM_STEPS) | {name: values}
    noise = 0.005 * np.random.default_rng(3).standard_normal(NUM_STEPS)
    metrics["reward/mean"] = metrics["reward/solved_frac"] = np.linspace(0.2, 0.6, NUM_STEPS) + noise
    matching = [finding for finding in judge(as_run(metrics)).findings if finding.code == code]
    assert len(matching) <= 1
    return matching[0] if matching else None


@pytest.mark.parametrize(
    ("code", "name", "usual", "warning", "error"),
    [
        ("truncation", "rollout/truncated_frac", 0.01, 0.2, 0.6),
        ("clip_frac", "policy/clip_frac", 0.004, 0.4, 0.6),
        ("kl_old", "policy/kl_old", 0.002, 0.05, 0.2),
        ("explained_variance", "critic/explained_var", 0.4, -0.5, -3.0),
        ("ratio", "policy/ratio_max", 2.0, 20.0, 5000.0),
        ("repetition", "rollout/repetition", 0.01, 0.3, 0.7),
    ],
)
def test_an_error_is_one_while_the_reward_rises(
    code: str, name: str, usual: float, warning: float, error: float
) -> None:
    """The same span at the level of a warning is a note, and an error that is over is a warning."""
    late, over = STEPS >= 60, (STEPS >= 60) & (STEPS < 130)
    for level, where, severity in (
        (warning, late, Severity.INFO),
        (error, late, Severity.ERROR),
        (error, over, Severity.WARN),
    ):
        finding = found(code, name, np.where(where, level, usual))
        assert finding is not None, level
        assert severity is finding.severity, level
    assert found(code, name, np.where(over, warning, usual)) is None


def test_groups_that_all_succeed_are_excused_and_those_that_all_fail_are_not() -> None:
    """Of a run whose reward rises, ninety-five of a hundred groups are without spread."""
    late = np.where(STEPS >= 60, 0.95, 0.2)
    for name, severity in (("reward/solve_all_frac", Severity.WARN), ("reward/solve_none_frac", Severity.ERROR)):
        metrics = healthy_metrics(NUM_STEPS, critic=False)
        metrics["reward/mean"] = metrics["reward/solved_frac"] = np.linspace(0.2, 0.6, NUM_STEPS)
        metrics |= {"rollout/zero_variance_frac": late, name: late - 0.05}
        finding = next(found for found in judge(as_run(metrics)).findings if found.code == "zero_variance")
        assert severity is finding.severity, name


@pytest.mark.parametrize(
    ("settings", "preset", "highest", "severity"),
    [
        ({}, "", 0.8, Severity.WARN),
        ({}, "", 0.4, None),
        ({}, "kl-free", 0.8, Severity.INFO),
        ({"kl.loss_coef": "0.001"}, "", 0.8, Severity.WARN),
        ({"kl.loss_coef": "0.0", "kl.reward_coef": "0.0"}, "", 0.8, None),
        ({"kl.loss_coef": "0.0", "kl.reward_coef": "0.0"}, "", 6.0, Severity.ERROR),
    ],
)
def test_kl_that_is_large_is_told_while_the_reward_rises_unless_nothing_holds_the_policy(
    settings: dict[str, str], preset: str, highest: float, severity: Severity | None
) -> None:
    """Half a nat a token is far for a policy with a KL term; tenfold its early level, below that, is what it takes."""
    metrics = healthy_metrics(NUM_STEPS, critic=False) | {"policy/kl_ref": np.geomspace(0.005, highest, NUM_STEPS)}
    metrics["reward/mean"] = metrics["reward/solved_frac"] = np.linspace(0.2, 0.6, NUM_STEPS)
    run = replace(as_run(metrics), config=settings, chosen_preset=preset)
    found = {finding.code: finding.severity for finding in judge(run).findings}
    assert severity is found.get("kl_drift")
