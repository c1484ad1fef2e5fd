"""Judging beside the painting, and telling each episode once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from orz_cli.findings import Severity
from orz_monitor.engine import Verdict
from orz_monitor.findings import Finding
from orz_monitor.log import Log
from orz_monitor.records import dumps
from orz_monitor.run import Run
from orz_monitor.stitch import stitch
from orz_monitor.tail.episodes import Episodes
from orz_monitor.tail.judging import Judging
from orz_monitor.tail.source import Source
from orz_monitor.testing import START, healthy_metrics, step_records, write_run

pytestmark = pytest.mark.unit


def finding(code: str, first: int | None, last: int | None, severity: Severity = Severity.WARN) -> Finding:
    return Finding(code=code, severity=severity, title="t", message="m", causes=(), first_step=first, last_step=last)


def told_of(told: Episodes, *findings: Finding, newest: int = 1000) -> list[Finding]:
    """Return what is news of a judgement at a step."""
    run = stitch(Log(), name="run", path=Path("run.log"), folder=None, now=START, dialects=())
    run = replace(run, steps=np.array([newest]))
    return told.new(Verdict(run=run, findings=findings, passed=(), not_evaluated=()))


def test_an_episode_that_goes_on_is_told_once() -> None:
    """It grows step by step, its beginning may move; a second one later is told again."""
    told = Episodes()
    assert 1 == len(told_of(told, finding("kl", 10, 12)))
    assert [] == told_of(told, finding("kl", 10, 20))
    assert [] == told_of(told, finding("kl", 15, 30))
    assert [] == told_of(told, finding("kl", 28, 40))
    assert [(50, 52)] == [
        (f.first_step, f.last_step) for f in told_of(told, finding("kl", 28, 40), finding("kl", 50, 52))
    ]
    assert ["entropy"] == [f.code for f in told_of(told, finding("kl", 50, 53), finding("entropy", 50, 53))]


def test_an_episode_that_worsens_is_told_again() -> None:
    """A warning that becomes an error; back to a warning is no news."""
    told = Episodes()
    told_of(told, finding("kl", 1, 2))
    assert 1 == len(told_of(told, finding("kl", 1, 3, Severity.ERROR)))
    assert [] == told_of(told, finding("kl", 1, 4, Severity.ERROR))
    assert [] == told_of(told, finding("crash", None, None))[1:]
    assert [] == told_of(told, finding("crash", None, None))


def test_an_episode_at_the_newest_step_goes_on_with_the_run() -> None:
    """A log whose clock is wrong is silent too long after each step; when the silence was over, another one is news."""
    told = Episodes()
    assert 1 == len(told_of(told, finding("stall", 5, 5), newest=5))
    assert [] == told_of(told, finding("stall", 6, 6), newest=6)
    assert [] == told_of(told, finding("stall", 9, 9), newest=9)
    assert 1 == len(told_of(told, finding("stall", 10, 10, Severity.ERROR), newest=10))
    assert [] == told_of(told, newest=11)
    assert 1 == len(told_of(told, finding("stall", 12, 12), newest=12))
    assert 1 == len(told_of(told, finding("stall", 12, 12), finding("kl", 13, 13), newest=13))


def test_an_episode_without_a_step_ends_when_it_is_gone() -> None:
    """Silence before the first step, and later after the third."""
    told = Episodes()
    assert 1 == len(told_of(told, finding("stall", None, None)))
    assert [] == told_of(told, finding("stall", None, None))
    assert [] == told_of(told)
    assert 1 == len(told_of(told, finding("stall", 3, 3), newest=3))


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Source]:
    """A short run, read to its end."""
    with Source(write_run(tmp_path, step_records(healthy_metrics(5)))) as source:
        while source.poll() or not source.has_caught_up:
            pass
        yield source


def test_painting_never_waits_for_a_judgement(source: Source) -> None:
    """While one is under way no other begins, and the last one stays; then it rests."""
    go = threading.Event()

    def slowly(judged: Run) -> Verdict:
        go.wait(10)
        return Verdict(run=judged, findings=(), passed=(), not_evaluated=())

    judging = Judging(source, slowly)
    assert judging.offer()
    assert judging.is_busy
    assert not judging.offer()
    assert judging.verdict is None
    go.set()
    run, verdict = judging.settle()
    assert verdict is not None
    assert run is source.run
    assert [0, 1, 2, 3, 4] == verdict.run.steps.tolist()
    assert not judging.offer()


def test_a_rule_that_fails_ends_the_command(source: Source) -> None:
    """Its error is raised where it can be told, not lost in a thread."""

    def fail(_run: Run) -> Verdict:
        raise ZeroDivisionError("a bug")

    judging = Judging(source, fail)
    judging.offer()
    with pytest.raises(ZeroDivisionError, match="a bug"):
        judging.settle()
    with pytest.raises(ZeroDivisionError, match="a bug"):
        judging.offer()


def test_reading_goes_on_while_the_run_is_reckoned(source: Source, tmp_path: Path) -> None:
    """What is read meanwhile waits, and is not lost."""
    source.refresh()
    (more,) = step_records({"reward/mean": np.array([0.5])}, first_step=5)
    with source._reading:
        with (tmp_path / "metrics.jsonl").open("a") as file:
            file.write(dumps(more) + "\n")
        assert source.poll()
        assert not source.has_caught_up
        assert not source.is_stale
    while source.poll() or not source.has_caught_up:
        pass
    run = source.refresh()
    assert run is not None
    assert 5 == run.steps[-1]
