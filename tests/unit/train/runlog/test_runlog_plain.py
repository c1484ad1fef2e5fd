from __future__ import annotations

import io
import logging
import os
from collections.abc import Callable

import pytest

from orz_monitor.records import EventRecord, StepRecord
from orz_train.runlog.history import History
from orz_train.runlog.plain import PlainLines
from orz_train.types import StepReport

pytestmark = pytest.mark.unit


def shown(report: StepReport, history: History, stream: io.TextIOBase) -> None:
    history.add(StepRecord(step=report.step, time=0.0, metrics=report.metrics, seconds=report.seconds))
    PlainLines(stream, history).step(report)


def test_a_step_is_one_line(make_report: Callable[..., StepReport]) -> None:
    """Numbers that were not measured are left out, so GRPO's lines have no holes."""
    stream = io.StringIO()
    shown(make_report(2, metrics={"policy/kl_ref": 0.0827}), History(80), stream)
    assert (
        "step  2/80  reward 0.500  pg -0.0013  kl 0.083  ent 0.457  len 812    1.3 s  eta 1:41\n" == stream.getvalue()
    )


def test_step_0_is_no_line(make_report: Callable[..., StepReport]) -> None:
    """It is an evaluation, which has a line of its own."""
    stream = io.StringIO()
    shown(make_report(0), History(80), stream)
    assert "" == stream.getvalue()


def test_kl_falls_back_to_the_old_policy(make_report: Callable[..., StepReport]) -> None:
    """Without a reference model the drift within the step is what there is."""
    stream = io.StringIO()
    shown(make_report(2, metrics={"policy/kl_old": 0.5}), History(80), stream)
    assert "kl 0.500" in stream.getvalue()


def test_events_and_warnings_are_lines_too() -> None:
    """From WARNING on the level is said; what a model sampled can't command the terminal."""
    stream = io.StringIO()
    lines = PlainLines(stream, History(80))
    lines.phase("generate", 1, 2)
    lines.event(EventRecord(event="checkpoint_saved", time=0.0, step=2, data={"path": "checkpoints/step_000002"}))
    lines.note(logging.WARNING, "odd \x1b[2J")
    lines.close()
    assert "saved checkpoints/step_000002\nwarning: odd \\x1b[2J\n" == stream.getvalue()


def test_an_ascii_stream_gets_escapes_instead_of_an_error() -> None:
    """A pipe in the C locale is no reason to fail."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    PlainLines(stream, History(1)).note(logging.INFO, "é")
    assert b"\\xe9\n" == raw.getvalue()


def test_a_reader_that_goes_away_does_not_end_the_run() -> None:
    """A broken pipe and a closed stream end the lines only."""
    reading, writing = os.pipe()
    os.close(reading)
    stream = os.fdopen(writing, "w")
    lines = PlainLines(stream, History(1))
    lines.note(logging.INFO, "first")
    lines.note(logging.INFO, "second")
    assert lines._gone
    with pytest.raises(BrokenPipeError):
        stream.close()
    closed = io.StringIO()
    closed.close()
    PlainLines(closed, History(1)).note(logging.INFO, "nobody hears")
