"""Judging beside the painting, and telling each episode once."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from orz_cli.findings import Severity
from orz_monitor.engine import Verdict
from orz_monitor.findings import Finding
from orz_monitor.loading import load_run
from orz_monitor.run import Run
from orz_monitor.tail.judging import Episodes, Judging
from orz_monitor.testing import healthy_metrics, step_records, write_run

pytestmark = pytest.mark.unit


def finding(code: str, first: int | None, last: int | None, severity: Severity = Severity.WARN) -> Finding:
    return Finding(code=code, severity=severity, title="t", message="m", causes=(), first_step=first, last_step=last)


def test_an_episode_that_goes_on_is_told_once() -> None:
    """It grows step by step, its beginning may move; a second one later is told again."""
    told = Episodes()
    assert 1 == len(told.new((finding("kl", 10, 12),)))
    assert [] == told.new((finding("kl", 10, 20),))
    assert [] == told.new((finding("kl", 15, 30),))
    assert [] == told.new((finding("kl", 28, 40),))
    assert [(50, 52)] == [(f.first_step, f.last_step) for f in told.new((finding("kl", 28, 40), finding("kl", 50, 52)))]
    assert ["entropy"] == [f.code for f in told.new((finding("kl", 50, 53), finding("entropy", 50, 53)))]


def test_an_episode_that_worsens_is_told_again() -> None:
    """A warning that becomes an error; back to a warning is no news."""
    told = Episodes()
    told.new((finding("kl", 1, 2),))
    assert 1 == len(told.new((finding("kl", 1, 3, Severity.ERROR),)))
    assert [] == told.new((finding("kl", 1, 4, Severity.ERROR),))
    assert [] == told.new((finding("crash", None, None),))[1:]
    assert [] == told.new((finding("crash", None, None),))


def test_painting_never_waits_for_a_judgement(tmp_path: Path) -> None:
    """While one is under way no other begins, and the last one stays."""
    run = load_run(write_run(tmp_path, step_records(healthy_metrics(5))))
    go = threading.Event()

    def slowly(judged: Run) -> Verdict:
        go.wait(10)
        return Verdict(run=judged, findings=(), passed=(), not_evaluated=())

    judging = Judging(slowly)
    assert judging.offer(run)
    assert judging.is_busy
    assert not judging.offer(run)
    assert judging.verdict is None
    go.set()
    judging.settle()
    assert judging.verdict is not None
    assert judging.verdict.run is run
    assert not judging.offer(run)  # it rests


def test_a_rule_that_fails_ends_the_command(tmp_path: Path) -> None:
    """Its error is raised where it can be told, not lost in a thread."""
    run = load_run(write_run(tmp_path, step_records(healthy_metrics(5))))

    def fail(_run: Run) -> Verdict:
        raise ZeroDivisionError("a bug")

    judging = Judging(fail)
    judging.offer(run)
    judging.settle()
    with pytest.raises(ZeroDivisionError, match="a bug"):
        judging.offer(run)
