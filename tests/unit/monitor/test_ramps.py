"""Ramps at the end of long runs: found by the end of a series, and the same as by all of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from orz_monitor.loading import load_run
from orz_monitor.rules import ramp
from orz_monitor.run import Run
from orz_monitor.testing import healthy_metrics, step_records, write_run

pytestmark = pytest.mark.unit

NUM_STEPS = 5000


def run_with_lengths(folder: Path, lengths: np.ndarray) -> Run:
    run = load_run(write_run(folder, step_records(healthy_metrics(60))))
    steps = np.arange(1, NUM_STEPS + 1)
    tokens = replace(run.metrics["rollout/response_tokens_mean"], steps=steps, values=lengths, lines=None, files=None)
    return replace(run, steps=steps, metrics={"rollout/response_tokens_mean": tokens})


def lengths_rising_from(step: int) -> np.ndarray:
    """Some 100 tokens, and more and more from a step on, in ever larger steps, up to e^10 times as many."""
    noise = np.random.default_rng(0).normal(0, 0.5, NUM_STEPS)
    after = np.clip(np.arange(1, NUM_STEPS + 1) - step, 0, 100)
    return 100 * np.exp(0.001 * after**2) + noise


@pytest.mark.parametrize("begins", [4950, 4970, 4700, 6000])
def test_a_ramp_is_the_same_by_the_end_of_the_series(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begins: int
) -> None:
    """What 2,000 points tell of 5,000 is what all of them tell, also where nothing is to be found."""
    run = run_with_lengths(tmp_path, lengths_rising_from(begins))
    by_the_end = ramp.RULE.judge(run)
    monkeypatch.setattr(ramp, "_RECENT", NUM_STEPS)
    assert [repr(finding) for finding in by_the_end] == [repr(finding) for finding in ramp.RULE.judge(run)]
    assert len(by_the_end) == (begins < NUM_STEPS)


@pytest.mark.parametrize(("back_to", "num_found"), [(1.0, 0), (0.5, 1)])
def test_a_ramp_is_over_once_the_metric_is_back(tmp_path: Path, back_to: float, num_found: int) -> None:
    """Not when its band has come to where the metric went; half of the way back is not back."""
    lengths = lengths_rising_from(4700)
    lengths[4850:] = np.exp(np.log(lengths[4850:]) * (1 - back_to) + np.log(lengths[4550:4700]) * back_to)
    found = ramp.RULE.judge(run_with_lengths(tmp_path, lengths))
    assert num_found == len(found)
    assert all(NUM_STEPS == finding.last_step for finding in found)


def test_a_ramp_that_began_long_ago_is_followed_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With 100 points to look at first, a ramp over the last 80 goes back beyond half of them: all are looked at."""
    run = run_with_lengths(tmp_path, lengths_rising_from(4920))
    whole = ramp.RULE.judge(run)
    assert len(whole) == 1
    monkeypatch.setattr(ramp, "_RECENT", 100)
    assert [repr(finding) for finding in ramp.RULE.judge(run)] == [repr(finding) for finding in whole]
