"""A learning rate that is 0 from the first step on, and rates that only look like it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from orz_cli.findings import Severity
from orz_monitor.engine import judge
from orz_monitor.findings import Finding
from orz_monitor.loading import load_run
from orz_monitor.simulated import as_run
from orz_monitor.stats import Array
from orz_monitor.testing import healthy_metrics

pytestmark = pytest.mark.unit


def of_rate(metrics: dict[str, Array]) -> list[Finding]:
    """Return what is found of the learning rate of a run."""
    return [finding for finding in judge(as_run(metrics)).findings if finding.code == "learning_rate"]


def of_log(folder: Path, rates: list[str]) -> list[Finding]:
    """Return what is found of the learning rate of a verl log that prints it so, a value a step."""
    path = folder / "verl.log"
    rows = (f"step:{i} - actor/lr:{rate} - critic/score/mean:0.{50 + i % 7}1\n" for i, rate in enumerate(rates, 1))
    path.write_text("".join(rows), encoding="utf-8")
    return [finding for finding in judge(load_run(path)).findings if finding.code == "learning_rate"]


@pytest.mark.parametrize("printed", ["0.0", "0", "np.float64(0.0)", "0e+0"])
def test_a_rate_of_exactly_zero_is_a_warning(tmp_path: Path, printed: str) -> None:
    """Nothing is learnt in any of the 30 steps, whichever way 0 is printed in full."""
    (finding,) = of_log(tmp_path, [printed] * 30)
    assert (Severity.WARN, "The learning rate is 0") == (finding.severity, finding.title)
    assert (1, 30) == (finding.first_step, finding.last_step)
    assert "exactly 0 in all 30 steps from 1 to 30" in finding.message


@pytest.mark.parametrize(
    "rates",
    [["0.000"] * 30, ["0.0000"] * 30, ["0.0"] * 9, ["0.0", *["1e-06"] * 29], [*["0.0"] * 3, *["1e-06"] * 27]],
    ids=["three decimals", "four decimals", "nine steps", "first step of a warm-up", "three steps of a warm-up"],
)
def test_a_rate_that_only_looks_like_zero_is_none(tmp_path: Path, rates: list[str]) -> None:
    """1e-6 with three decimals reads 0.000; a warm-up begins at 0; nine steps are too few."""
    assert [] == of_log(tmp_path, rates)


def test_a_frozen_policy_rightly_has_a_rate_of_zero() -> None:
    """While only the critic trains, 0 is no fault; of the steps after that, ten count."""
    metrics = healthy_metrics(60)
    metrics["policy/lr"] = np.zeros(60)
    metrics["policy/frozen"] = np.ones(60)
    assert [] == of_rate(metrics)
    metrics["policy/frozen"][51:] = 0
    assert [] == of_rate(metrics)
    metrics["policy/frozen"][50:] = 0
    (finding,) = of_rate(metrics)
    assert (50, 59) == (finding.first_step, finding.last_step)
