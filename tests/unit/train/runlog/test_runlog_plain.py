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
    """Numbers that were not measured are left out, so GRPO's lines have no critic in them."""
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
    shown(make_report(2, metrics={"policy/kl_old": 0.5, "policy/updates": 4.0}), History(80), stream)
    assert "kl 0.500" in stream.getvalue()


def test_a_single_update_shows_no_noise(make_report: Callable[..., StepReport]) -> None:
    """Its loss is the rounding error of a mean that is 0, its KL to the old policy 0 by definition."""
    stream = io.StringIO()
    metrics = {
        "policy/loss": -1.1e-8,
        "policy/kl_old": 0.0,
        "policy/grad_norm": 0.8281,
        "critic/explained_var": -0.04,
        "rollout/response_tokens_mean": 7.4453,
    }
    shown(make_report(12, metrics=metrics), History(80), stream)
    assert (
        "step 12/80  reward 0.500  pg 0      ent 0.457  grad 0.828  ev -0.04  len 7.445  1.3 s  eta 1:28\n"
        == stream.getvalue()
    )


@pytest.mark.parametrize(
    ("num_steps", "seconds", "left_out"),
    [(80, 1.3, {"pg"}), (2000, 480.0, {"pg", "kl"}), (200_000, 1e5, {"pg", "kl", "ev"})],
)
def test_no_line_is_wider_than_100_columns(
    make_report: Callable[..., StepReport], num_steps: int, seconds: float, left_out: set[str]
) -> None:
    """What tells least goes first; step, reward and times always stay."""
    stream = io.StringIO()
    metrics = {
        "policy/loss": -1.3e-5,
        "policy/kl_ref": 0.0012,
        "policy/grad_norm": 123.4,
        "critic/explained_var": -0.031,
        "rollout/response_tokens_mean": 12345.6,
    }
    shown(make_report(1, metrics=metrics, seconds=seconds), History(num_steps), stream)
    line = stream.getvalue().rstrip("\n")
    assert len(line) <= 100
    assert left_out == {label for label in ("pg", "kl", "ent", "grad", "ev", "len") if f"  {label} " not in line}
    assert line.startswith(f"step {1:>{len(str(num_steps))}}/{num_steps}  reward 0.500  ")
    assert "  eta " in line


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
