"""Seconds by phase."""

from __future__ import annotations

import pytest

from orz_train import stopwatch
from orz_train.stopwatch import Stopwatch

pytestmark = pytest.mark.unit


def test_phases_add_up_and_never_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    """An inner phase counts to the outer one; a phase entered twice adds up; reading starts again."""
    now = [0.0]
    monkeypatch.setattr(stopwatch.time, "perf_counter", lambda: now[0])
    clock = Stopwatch()
    with clock.phase("eval"):
        now[0] += 1
        with clock.phase("generate"):
            now[0] += 2
    with clock.phase("generate"):
        now[0] += 4
    with clock.phase("eval"):
        now[0] += 8
    now[0] += 16
    assert {"eval": 11, "generate": 4, "total": 31} == clock.read()
    now[0] += 32
    assert {"total": 32} == clock.read()


def test_a_phase_that_fails_is_counted_and_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception ends the phase, and the next one counts for itself."""
    now = [0.0]
    monkeypatch.setattr(stopwatch.time, "perf_counter", lambda: now[0])
    clock = Stopwatch()

    def fail() -> None:
        with clock.phase("save"):
            now[0] += 1
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    with clock.phase("sync"):
        now[0] += 2
    assert {"save": 1, "sync": 2, "total": 3} == clock.read()
