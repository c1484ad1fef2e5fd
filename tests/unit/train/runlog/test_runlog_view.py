from __future__ import annotations

import io
import logging
import math
import re
from collections.abc import Callable

import pytest
from rich.cells import cell_len
from rich.console import Console

from orz_monitor.records import EventRecord, StepRecord
from orz_train.runlog.history import History
from orz_train.runlog.view import RunView
from orz_train.types import Prompt, Rollout, Score, StepReport

pytestmark = pytest.mark.unit

MakeReport = Callable[..., StepReport]
MakeSample = Callable[..., tuple[Prompt, Rollout, Score]]


def picture(view: RunView, width: int, height: int = 50, encoding: str = "utf-8") -> str:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")
    console = Console(file=stream, width=width, height=height, force_terminal=True, color_system=None)
    console.print(view)
    stream.flush()
    stream.seek(0)
    return stream.read()


@pytest.fixture
def history() -> History:
    return History(80)


@pytest.fixture
def view(history: History, make_report: MakeReport, make_sample: MakeSample) -> RunView:
    """Show a run after 12 steps, generating the 13th."""
    now = [0.0]
    view = RunView("tiny-20261122T110000Z-abc123", history, monotonic=lambda: now[0])
    history.add(EventRecord(event="evaluation", time=0.0, step=0, data={"metrics": {"eval/sums/accuracy": 0.328}}))
    for step in range(1, 13):
        metrics = {
            "reward/mean": step / 16,
            "policy/kl_old": 2e-4,
            "rollout/truncated_frac": 0.5 / step,
            "critic/explained_var": -0.25,
        }
        report = make_report(step, metrics=metrics, samples=[make_sample(text="The sum is 7\x1b[2J", reward=1.0)])
        history.add(StepRecord(step=step, time=0.0, metrics=report.metrics, seconds=report.seconds))
        view.step(report)
    view.phase("generate", 0, 256)
    now[0] = 3.2
    view.phase("generate", 120, 256)
    view.note(logging.WARNING, "left out an update of the policy: gradient norm is nan")
    return view


def test_the_picture_at_80_columns_shows_the_whole_run(view: RunView) -> None:
    """Standing, phase, curves, evaluation, a sample and events, each where people look for it."""
    lines = [line.rstrip() for line in picture(view, 80).splitlines()]
    assert " tiny-20261122T110000Z-abc123                              step 12/80  eta 1:25" == lines[0]
    assert " ━━━━━━━━━━━╸" == lines[1]
    assert " generate  ━━━━━━━          120/256  sampling responses  3.2 s" == lines[2]
    assert " 1.3 s a step: train_critic 462%, train_policy 38%, generate 31%" == lines[3]
    assert [
        " reward                 0.750  ▁▁▂▃▃▄▅▆▆▇██                              +0.438",
        " pg                   -0.0013  ▁▁▁▁▁▁▁▁▁▁▁▁",
        " kl to old policy      0.0002  ▁▁▁▁▁▁▁▁▁▁▁▁",
        " entropy                0.457  ▁▁▁▁▁▁▁▁▁▁▁▁",
        " response tokens          812  ▁▁▁▁▁▁▁▁▁▁▁▁",
        " truncated              0.042  █▄▃▂▂▁▁▁▁▁▁▁                              -0.177",
        " explained variance    -0.250  ▁▁▁▁▁▁▁▁▁▁▁▁",
        " learning rate        1.0e-06  ▁▁▁▁▁▁▁▁▁▁▁▁",
    ] == lines[5:13]
    assert [
        " eval sums    0.328 after step 0",
        "",
        " sampled in step 12  reward 1",
        " 3+4=",
        r" The sum is 7\x1b[2J",
        "",
        " left out an update of the policy: gradient norm is nan",
    ] == lines[14:]


@pytest.mark.parametrize("width", [20, 40, 59, 61, 62, 80, 100, 140, 300])
def test_no_line_is_wider_than_the_terminal(view: RunView, width: int) -> None:
    """A wrapped line would break the drawing over the old picture."""
    assert width >= max(cell_len(line) for line in picture(view, width).splitlines())


@pytest.mark.parametrize("width", [40, 80, 140])
def test_every_width_shows_the_reward(view: RunView, width: int) -> None:
    """Value and curve are there; changes only where there is room."""
    row = next(line for line in picture(view, width).splitlines() if line.startswith(" reward"))
    assert "0.750" in row
    assert "█" in row
    assert (width >= 80) == ("+0.438" in row)


@pytest.mark.parametrize("height", [2, 8, 12, 24])
def test_the_picture_is_lower_than_the_terminal(view: RunView, height: int) -> None:
    """The lower parts go first; the header stays."""
    lines = picture(view, 80, height).splitlines()
    assert len(lines) < height
    assert "step 12/80" in lines[0]


def test_nothing_measured_yet_still_has_a_picture() -> None:
    """Before the first step and its phases."""
    lines = [line.rstrip() for line in picture(RunView("tiny", History(3)), 40).splitlines()]
    assert [" tiny                   step 0/3  eta ?", "", " starting"] == lines


def test_grpo_has_no_critic_row_and_a_reference_its_own(history: History, make_report: MakeReport) -> None:
    """Only what was measured has a row."""
    view = RunView("tiny", history)
    report = make_report(1, metrics={"policy/kl_ref": 0.5, "critic/loss": None})
    history.add(StepRecord(step=1, time=0.0, metrics=report.metrics))
    text = picture(view, 80)
    assert "kl to reference" in text
    assert "explained variance" not in text


def test_rounding_errors_draw_no_curve(history: History) -> None:
    """A policy loss of 1e-8 is 0 and flat; a learning rate of 1e-8 is a learning rate."""
    view = RunView("tiny", history)
    for step, value in enumerate((-1.1e-8, 1.8e-9, -6.6e-10, 1.3e-8), start=1):
        history.add(StepRecord(step=step, time=0.0, metrics={"policy/loss": value, "policy/lr": abs(value)}))
    rows = [re.split(r"\s{2,}", line.strip()) for line in picture(view, 80).splitlines()]
    assert ["pg", "0", "▁▁▁▁"] in rows
    assert any(row[:2] == ["learning rate", "1.3e-08"] for row in rows)


def test_values_that_are_not_finite_are_seen(history: History) -> None:
    """A NaN is named in its row and marked in its curve."""
    view = RunView("tiny", history)
    for step, value in enumerate((0.5, math.inf, -math.inf, math.nan), start=1):
        history.add(StepRecord(step=step, time=0.0, metrics={"policy/loss": value}))
    row = next(line for line in picture(view, 80).splitlines() if line.startswith(" pg"))
    assert [" pg", "nan", "▁xxx", "nan"] == re.split(r"\s{2,}", row.rstrip())


def test_an_ascii_terminal_gets_a_picture(view: RunView) -> None:
    """Nothing in it needs more than ASCII, so the strict stream takes it."""
    assert "step 12/80" in picture(view, 80, encoding="ascii")


def test_newest_events_stay_and_evaluations_have_their_own_place(view: RunView) -> None:
    """Four lines at most; `start` and `evaluation` are told elsewhere."""
    for step in range(10):
        view.event(EventRecord(event="checkpoint_saved", time=0.0, step=step, data={"path": f"step_{step}"}))
    view.event(EventRecord(event="evaluation", time=0.0, step=9, data={"metrics": {"eval/sums/accuracy": 0.5}}))
    lines = [line.rstrip() for line in picture(view, 80).splitlines()]
    assert [f" saved step_{step}" for step in (6, 7, 8, 9)] == lines[-4:]


@pytest.mark.parametrize(("expected", "event"), [(" finished", "finish"), (" interrupted", "interrupted")])
def test_the_last_picture_says_how_it_ended(view: RunView, expected: str, event: str) -> None:
    """No phase is running any more."""
    view.event(EventRecord(event=event, time=0.0, step=12))
    assert expected == picture(view, 80).splitlines()[2].rstrip()


def test_long_answers_are_cut_in_the_middle(history: History, make_report: MakeReport, make_sample: MakeSample) -> None:
    """Beginning and end are what tells; the prompt is one line, the answer two."""
    view = RunView("tiny", history)
    sample = make_sample(prompt="p" * 500 + " problem", text="begin" + "x" * 5000 + "boxed")
    view.step(make_report(1, samples=[sample]))
    lines = [line.rstrip() for line in picture(view, 80).splitlines()]
    assert lines[-3].endswith(" problem")
    assert lines[-2].startswith(" beginxxx")
    assert lines[-1].endswith("xboxed")
    assert 8 == len(lines)
