"""Levels that begin anew, and values that only read as zero."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from orz_monitor.engine import judge
from orz_monitor.loading import load_run
from orz_monitor.presets import trains_critic
from orz_monitor.records import EventRecord
from orz_monitor.rules.stretches import stretches
from orz_monitor.run import Run
from orz_monitor.series import Series
from orz_monitor.simulated import as_run
from orz_monitor.stats import Array
from orz_monitor.testing import healthy_metrics

pytestmark = pytest.mark.unit


def series(values: list[float], quanta: list[float] | None = None) -> Series:
    return Series(
        name="x",
        steps=np.arange(len(values)),
        values=np.array(values),
        quanta=np.array(quanta) if quanta is not None else None,
    )


def spans(parts: list[Series]) -> list[tuple[int, int]]:
    return [(int(part.steps[0]), int(part.steps[-1])) for part in parts]


def test_a_reset_begins_after_its_step() -> None:
    """The update of the reference comes at the end of step 2; steps beyond the series cut nothing."""
    assert spans(stretches(series([1.0] * 6), resets=[2, 99, -1])) == [(0, 2), (3, 5)]


@pytest.mark.parametrize(
    ("after", "falls", "expected"),
    [
        (1.4, False, [(0, 9)]),
        (1.6, False, [(0, 4), (5, 9)]),
        (1.6, True, [(0, 9)]),
        (0.6, True, [(0, 4), (5, 9)]),
        (-1.0, False, [(0, 9)]),
    ],
)
def test_a_restart_cuts_where_the_level_jumps(after: float, falls: bool, expected: list[tuple[int, int]]) -> None:
    """By half and more, up or down; where only falls count, down."""
    assert spans(stretches(series([1.0] * 5 + [after] * 5), restarts=[5], falls=falls)) == expected


def test_an_empty_series_has_no_stretch() -> None:
    assert stretches(series([]), resets=[1], restarts=[2]) == []


def test_zeros_below_the_printed_digit_are_half_of_it() -> None:
    """0.000 is below 0.0005 (quantum 0.001, half of it); a zero that was printed in full stays."""
    assert series([0.0, 0.002], [0.001, 0.001]).resolved().values.tolist() == [0.0005, 0.002]
    assert series([0.0, 0.0], [0.0, 0.1]).resolved().values.tolist() == [0.0, 0.05]
    assert series([0.0]).resolved().values.tolist() == [0.0]


def codes(run: Run) -> set[str]:
    return {finding.code for finding in judge(run).findings}


def drifting(values: Array, marks: list[int]) -> Run:
    """A run whose KL is `values` and whose reward gains nothing, with updates of the reference."""
    metrics = healthy_metrics(len(values))
    metrics["policy/kl_ref"] = values
    metrics["reward/mean"] = 0.4 + 0.01 * np.sin(np.arange(len(values)))
    run = as_run(metrics)
    updates = tuple(EventRecord(event="ref_update", time=run.now, step=step) for step in marks)
    return replace(run, events=(*updates, *run.events))


def test_kl_is_judged_anew_after_the_reference_became_the_policy() -> None:
    """From 0.001 at its start to 0.2 is a drift; from 0.15, which the new reference begins with, it is none."""
    values = np.concatenate([np.full(30, 0.001), np.full(30, 0.15)])
    assert "kl_drift" in codes(drifting(values, []))
    assert "kl_drift" not in codes(drifting(values, [29]))


def test_a_ramp_does_not_reach_across_a_restart_with_another_level() -> None:
    """Twice the length from a restart on is another setting; without the restart it is a ramp."""
    metrics = healthy_metrics(120)
    metrics["rollout/response_tokens_mean"] = np.where(np.arange(120) < 108, 20.0, 50.0)
    metrics["policy/kl_ref"] = np.full(120, 0.01)
    metrics["reward/mean"] = np.full(120, 0.4) + 0.001 * np.sin(np.arange(120))
    assert "ramp" in codes(as_run(metrics))
    assert "ramp" not in codes(as_run(metrics, restarts=(108,)))


def log_with(tmp_path: Path, norm: str, rate: str) -> Run:
    path = tmp_path / "train.log"
    line = "step:{} - actor/pg_loss:0.5 - critic/score/mean:{} - actor/grad_norm:{} - actor/lr:{} - critic/kl:{}\n"
    path.write_text("".join(line.format(i, 0.3 + 0.1 * (i % 3), norm, rate, norm) for i in range(30)))
    return load_run(path)


def test_a_zero_that_was_not_printed_in_full_is_no_finding(tmp_path: Path) -> None:
    """Verl once printed three decimals: a rate of 1e-6 and a small gradient read as 0.000, and 0.0 as itself."""
    assert codes(log_with(tmp_path, "0.000", "0.000")) & {"grad_zero", "kl_zero", "learning_rate"} == set()
    assert "grad_zero" in codes(log_with(tmp_path, "0.0", "1e-06"))


def test_only_a_critics_own_metrics_tell_of_a_critic(tmp_path: Path) -> None:
    """Verl puts scores and advantages under `critic/` in GRPO, too."""
    assert not trains_critic({"critic/advantages/mean", "critic/rewards/max", "reward/mean"})
    assert trains_critic({"critic/loss"})
    assert trains_critic({"critic/value_max"})
    path = tmp_path / "train.log"
    line = "step:{} - actor/pg_loss:0.5 - critic/score/mean:0.25 - critic/advantages/mean:0.0 - critic/rewards/max:1.0"
    path.write_text("".join(line.format(i) + "\n" for i in range(5)))
    run = load_run(path)
    assert ("grpo", False) == (run.preset, run.has_critic)
    path.write_text("".join(line.format(i) + " - critic/vf_loss:0.5\n" for i in range(5)))
    assert ("ppo", True) == (load_run(path).preset, load_run(path).has_critic)
