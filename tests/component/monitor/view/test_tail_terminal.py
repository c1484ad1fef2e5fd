"""`orz monitor tail` in a real pseudo-terminal."""

from __future__ import annotations

import os
import re
import signal
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orz_monitor.records import EventRecord, dumps
from orz_monitor.testing import START, healthy_metrics, step_records, write_run

pytestmark = pytest.mark.component

OpenTerminal = Callable[..., Any]
LEAVES_OTHER_SCREEN = b"\x1b[?1049l"
SHOWS_CURSOR = b"\x1b[?25h"
COLOUR = re.compile(rb"\x1b\[[\d;]*3[1-7]")


@pytest.fixture
def growing(tmp_path: Path) -> Path:
    """A run with a finding that goes on: started, 60 of 120 steps done."""
    metrics = healthy_metrics(60)
    metrics["policy/kl_ref"][50] = np.inf
    began = time.time() - 125
    start = EventRecord(event="start", time=began, data={"steps": 120})
    console = "".join(f"console line {index}\n" for index in range(40))
    return write_run(
        tmp_path / "growing", [start, *step_records(metrics, start=began)], finished=False, console=console
    )


def append(run: Path, *records: Any) -> None:
    with (run / "metrics.jsonl").open("a") as file:
        file.write("".join(dumps(record) + "\n" for record in records))


@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (200, 60)])
def test_it_shows_the_run_and_follows_it_to_its_end(
    terminal: OpenTerminal, growing: Path, columns: int, lines: int
) -> None:
    """What is there, then a new step, a new finding and a new log line; then the last picture and exit code 0."""
    tail = terminal("monitor", "tail", growing, columns=columns, lines=lines)
    shown = tail.wait_for("findings")
    assert "growing" in shown.splitlines()[0]
    assert "step 59/120" in shown
    for word in ("reward", "policy loss (pg)", "KL to reference", "entropy", "explained variance", "learning rate"):
        assert word in shown
    assert "nonfinite" in shown
    assert "console line 39" in shown
    assert "q or Ctrl-C leaves" in shown.splitlines()[-1]
    assert ("policy/grad_norm" in shown) is (columns == 200)
    (more,) = step_records({"reward/mean": np.array([0.123])}, first_step=60)
    append(growing, more)
    assert "0.123" in tail.wait_for("step 60/120")
    with (growing / "console.log").open("a") as console:
        console.write("one more \x1b[2Jline\n")
    tail.wait_for("one more line")
    append(growing, EventRecord(event="finish", time=START + 200, step=60))
    assert 0 == tail.end()
    assert LEAVES_OTHER_SCREEN in tail.raw
    assert "finished" in tail.raw.rpartition(LEAVES_OTHER_SCREEN)[2].decode()


def test_ctrl_c_gives_the_terminal_back(terminal: OpenTerminal, growing: Path) -> None:
    """Exit code 130, the first screen, the cursor, and keys that are shown again."""
    tail = terminal("monitor", "tail", growing)
    tail.wait_for("findings")
    hidden = termios.tcgetattr(tail.process.child_fd)[3]
    assert not hidden & termios.ECHO
    tail.process.sendintr()
    assert 130 == tail.end()
    assert SHOWS_CURSOR in tail.raw
    assert LEAVES_OTHER_SCREEN in tail.raw
    assert b"Traceback" not in tail.raw


def test_sigterm_gives_the_terminal_back_too(terminal: OpenTerminal, growing: Path) -> None:
    """As Ctrl-C does."""
    tail = terminal("monitor", "tail", growing)
    tail.wait_for("findings")
    os.kill(tail.process.pid, signal.SIGTERM)
    assert 130 == tail.end()
    assert LEAVES_OTHER_SCREEN in tail.raw


def test_q_leaves(terminal: OpenTerminal, growing: Path) -> None:
    """With the last picture left on the screen."""
    tail = terminal("monitor", "tail", growing)
    tail.wait_for("findings")
    tail.process.send("q")
    assert 0 == tail.end()
    assert "KL to reference" in tail.raw.rpartition(LEAVES_OTHER_SCREEN)[2].decode()


def test_it_waits_for_a_run_that_is_not_there_yet(terminal: OpenTerminal, tmp_path: Path) -> None:
    """It says for what, and goes on when it comes."""
    run = tmp_path / "later"
    tail = terminal("monitor", "tail", run)
    assert "Ctrl-C" not in tail.wait_for("for a file or folder that is not there yet")
    write_run(run, step_records(healthy_metrics(30)), finished=False)
    tail.wait_for("step 29")


def test_lines_that_look_like_metrics_are_told(terminal: OpenTerminal, tmp_path: Path) -> None:
    """Of a trainer that nobody knows, while too few steps are there to be sure; then its values."""
    path = tmp_path / "train.log"
    path.write_text("step 1 | loss 0.93 | reward 0.125\n")
    tail = terminal("monitor", "tail", path)
    tail.wait_for("1 line looks like metrics in train.log; two more steps")
    with path.open("a") as log:
        log.write("step 2 | loss 0.83 | reward 0.25\nstep 3 | loss 0.75 | reward 0.375\nstep 4 | loss 1 | reward 0.5\n")
    assert "looks like" not in tail.wait_for("policy loss (pg)")


def test_a_resized_terminal_is_drawn_anew(terminal: OpenTerminal, growing: Path) -> None:
    """From 80x24 to 200x60: more metrics, none of the old picture left."""
    tail = terminal("monitor", "tail", growing)
    tail.wait_for("findings")
    tail.resize(200, 60)
    shown = tail.wait_for("policy/grad_norm")
    assert 1 == shown.count("KL to reference")
    tail.resize(60, 16)
    tail.wait_for(lambda text: "policy/grad_norm" not in text and "step 59/120" in text)


def test_no_color_takes_only_the_colours_away(terminal: OpenTerminal, growing: Path) -> None:
    """NO_COLOR=1: the same picture."""
    tail = terminal("monitor", "tail", growing, NO_COLOR="1")
    tail.wait_for("findings")
    tail.wait_for("console line 39")
    assert not COLOUR.search(tail.raw)
    coloured = terminal("monitor", "tail", growing)
    coloured.wait_for("findings")
    assert COLOUR.search(coloured.raw)


def test_a_dumb_terminal_gets_lines(terminal: OpenTerminal, growing: Path) -> None:
    """TERM=dumb: no cursor movement at all."""
    append(growing, EventRecord(event="finish", time=START + 200, step=59))
    tail = terminal("monitor", "tail", growing, columns=200, TERM="dumb")
    assert 0 == tail.end()
    assert b"\x1b" not in tail.raw
    assert b"step 59/120" in tail.raw
