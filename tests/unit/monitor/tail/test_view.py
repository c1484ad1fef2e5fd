"""The picture: fits every terminal, shows what matters first, obeys nothing in the log."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from orz_monitor.engine import judge
from orz_monitor.loading import load_run
from orz_monitor.records import EventRecord, StepRecord
from orz_monitor.tail.lines import LastLines
from orz_monitor.tail.log_reader import LogReader
from orz_monitor.tail.view import View
from orz_monitor.testing import START, healthy_metrics, step_records, write_run

pytestmark = pytest.mark.unit


def view_of(folder: Path, *, height: int | None, log: bytes = b"a line\nanother line\n") -> View:
    """A run with two findings, half way through, and a log."""
    metrics = healthy_metrics(60)
    metrics["reward/mean"][40:] = 0.0
    metrics["reward/solved_frac"] = metrics["reward/mean"]
    metrics["policy/kl_ref"][50] = np.inf
    start = EventRecord(event="start", time=START, data={"steps": 120})
    run = load_run(write_run(folder, [start, *step_records(metrics)], finished=False), now=START + 125)
    lines = LastLines()
    lines.feed(log)
    return View(title="my-run", now=START + 125, run=run, verdict=judge(run), lines=lines, height=height)


def drawn(view: View, width: int, **options: bool) -> list[str]:
    return [line.plain for line in view.drawn(width, **options)]


@pytest.mark.parametrize("width", [40, 60, 80, 139, 140, 200])
@pytest.mark.parametrize("height", [8, 12, 24, 60])
def test_it_fits(tmp_path: Path, width: int, height: int) -> None:
    """Exactly as high as the terminal and never wider."""
    lines = view_of(tmp_path, height=height).drawn(width)
    assert height == len(lines)
    assert max(line.cell_len for line in lines) <= width


def test_a_log_without_times_is_not_said_to_run(tmp_path: Path) -> None:
    """It may have been written long ago: that it has no end is all that is known."""
    path = tmp_path / "train.log"
    path.write_text("".join(f"step:{step} - critic/score/mean:0.{step} - actor/kl_loss:0.1\n" for step in range(1, 9)))
    run = load_run(path)
    view = View(title="train.log", now=START, run=run, verdict=judge(run), lines=LastLines(), height=None)
    assert drawn(view, 80)[0].endswith("step 8  eta -  not ended")


def test_80_by_24_shows_what_matters(tmp_path: Path) -> None:
    """Progress, time left, phases, ten metrics, the findings and the log."""
    lines = drawn(view_of(tmp_path, height=24), 80)
    assert lines[0].startswith("my-run")
    assert lines[0].endswith("step 59/120  eta 2 min  last step 5 s ago")
    text = "\n".join(lines)
    for word in ("reward ", "policy loss (pg)", "KL to reference", "entropy", "response tokens", "truncated"):
        assert word in text
    for word in ("critic loss", "explained variance", "learning rate", "tokens per second", "generate 45 %"):
        assert word in text
    assert "findings  1 error, 1 warning" in text
    assert "error reward_floor" in text
    assert "another line" in text


def test_a_step_that_is_under_way_is_not_the_newest_one(tmp_path: Path) -> None:
    """Where the run stands, since when, and what was spent on the last step: none of it of a step that has begun."""
    begun = StepRecord(step=3, time=START + 7, metrics={}, seconds={"generate": 100.0})
    run = load_run(write_run(tmp_path, [*step_records(healthy_metrics(3)), begun], finished=False))
    run = replace(run, has_whole_steps=False)
    head, split, *_ = drawn(View(title="my-run", now=START + 10, run=run), 80, coloured=False)
    assert head.endswith("step 2  eta -  last step 4 s ago")
    assert split.startswith("2 s a step: generate 45 %")


def test_a_wide_terminal_shows_more_metrics_in_two_columns(tmp_path: Path) -> None:
    """What else changes: evaluations and the rest of the registry."""
    text = "\n".join(drawn(view_of(tmp_path, height=60), 200))
    assert "eval/held-out/accuracy" in text
    assert "policy/grad_norm" in text
    assert "try: divide" in text


def test_a_snapshot_is_as_long_as_it_takes(tmp_path: Path) -> None:
    """All findings with what to try, and no notice."""
    text = "\n".join(drawn(view_of(tmp_path, height=None), 100))
    assert 2 == text.count("try: ")


def test_a_log_can_not_draw_outside_of_its_lines(tmp_path: Path) -> None:
    """Colours, cursor movements, links, markup and double-width characters: each log line is one line of text."""
    hostile = "\x1b[2J\x1b[H\x1b]8;;http://evil\x07link\x1b]8;;\x07 [bold red]markup[/] " + "宽" * 100
    view = view_of(tmp_path, height=24, log=hostile.encode() + b"\n")
    stream = io.StringIO()
    Console(file=stream, width=80, height=24, force_terminal=True, color_system=None).print(view)
    text = stream.getvalue()
    assert "\x1b" not in text
    assert "link [bold red]markup[/] 宽" in text
    assert "evil" not in text


def test_plain_characters_where_blocks_can_not_be_shown(tmp_path: Path) -> None:
    """An ASCII terminal gets ASCII."""
    for line in drawn(view_of(tmp_path, height=24), 79, ascii_only=True):
        assert line.replace("…", "").isascii()


def test_a_log_without_a_metric_is_not_said_to_be_well(tmp_path: Path) -> None:
    """Rules that looked at nothing found nothing."""
    run = LogReader(tmp_path / "train.log", None).snapshot()
    assert "findings" not in "\n".join(drawn(View(title="x.log", now=0.0, run=run, verdict=judge(run), height=10), 60))


def test_before_anything_is_read_the_log_and_the_wait_are_shown() -> None:
    """The picture that is painted at once."""
    lines = LastLines()
    lines.feed(b"loading the model\n")
    shown = drawn(View(title="x.log", now=0.0, lines=lines, notice="waiting 3 s for x.log", height=10), 60)
    assert 10 == len(shown)
    assert "x.log" == shown[0]
    assert "loading the model" in shown
    assert "waiting 3 s for x.log" == shown[-1]
