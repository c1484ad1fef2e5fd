"""The run log on a terminal: its live view draws, and gives the terminal back whatever ends the run."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.component

HELPERS = Path(__file__).with_name("conftest.py")
"""Has the configuration and the reports that the run is made of."""
_LIVE_RUN = """
import importlib.util, sys, time
from pathlib import Path
from orz_train.runlog import RunFolder, RunLog
spec = importlib.util.spec_from_file_location("helpers", sys.argv[1])
helpers = importlib.util.module_from_spec(spec)
spec.loader.exec_module(helpers)
with RunFolder(helpers.config(), Path(sys.argv[2])) as folder, RunLog(folder, num_steps=4) as log:
    log.event("start")
    log.write(helpers.report(1))
    for done in range(100):
        log.phase("generate", done, 100)
        time.sleep(0.05)
        if done == 10 and sys.argv[3] == "crash":
            raise RuntimeError("boom")
"""
_HIDE, _SHOW = "\x1b[?25l", "\x1b[?25h"


class Terminal:
    """A pseudo-terminal of 80 columns with a run on its stderr, and its stdout in a pipe."""

    def __init__(self, path: Path, how: str, **environment: str) -> None:
        self.master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (40, 80))
        clean = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "COLUMNS", "TERM"}}
        self.process = subprocess.Popen(
            [sys.executable, "-c", _LIVE_RUN, str(HELPERS), str(path), how],
            stdin=slave,
            stdout=subprocess.PIPE,
            stderr=slave,
            env={**clean, "TERM": "xterm-256color", **environment},
            start_new_session=True,
        )
        os.close(slave)
        self.shown = ""

    def read_until(self, text: str, timeout_s: float = 60.0) -> None:
        """Read what the terminal is sent until a text is among it."""
        deadline = time.monotonic() + timeout_s
        while text not in self.shown:
            ready, _, _ = select.select([self.master], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"{text!r} did not appear in {self.shown!r}"
            self.shown += os.read(self.master, 65536).decode("utf-8", "replace")

    def finish(self) -> tuple[int, str]:
        """Read the rest; return the exit status and stdout."""
        while select.select([self.master], [], [], 30.0)[0]:
            try:
                data = os.read(self.master, 65536)
            except OSError:  # the other end is closed
                break
            self.shown += data.decode("utf-8", "replace")
        stdout, _ = self.process.communicate(timeout=30)
        os.close(self.master)
        return self.process.returncode, stdout.decode()


def test_the_live_view_gives_the_terminal_back_on_ctrl_c(tmp_path: Path) -> None:
    """It draws, is resized, is interrupted: the cursor is shown again, the summary goes to stdout alone."""
    terminal = Terminal(tmp_path / "run", "wait")
    terminal.read_until("sampling responses")
    assert "step 1/4" in re.sub(r"\x1b\[[0-9;]*m", "", terminal.shown)
    termios.tcsetwinsize(terminal.master, (30, 50))
    terminal.process.send_signal(signal.SIGWINCH)
    terminal.read_until("\x1b[2J")
    terminal.process.send_signal(signal.SIGINT)
    status, stdout = terminal.finish()
    assert status != 0
    assert terminal.shown.rindex(_SHOW) > terminal.shown.rindex(_HIDE)
    assert stdout.startswith("\ntiny interrupted: 1 of 4 steps")
    assert "\x1b" not in stdout
    assert "tiny interrupted" not in terminal.shown


def test_the_live_view_gives_the_terminal_back_on_a_crash(tmp_path: Path) -> None:
    """The traceback comes after the last picture, on a terminal with its cursor."""
    terminal = Terminal(tmp_path / "run", "crash")
    status, stdout = terminal.finish()
    assert (1, "") == (status, stdout)
    assert terminal.shown.rindex("RuntimeError: boom") > terminal.shown.rindex(_SHOW) > terminal.shown.rindex(_HIDE)


def test_no_color_takes_only_the_colours(tmp_path: Path) -> None:
    """The picture still moves."""
    terminal = Terminal(tmp_path / "run", "crash", NO_COLOR="1")
    terminal.finish()
    assert _HIDE in terminal.shown
    picture = terminal.shown[: terminal.shown.rindex(_SHOW)]
    assert [] == [code for code in re.findall(r"\x1b\[([0-9;]+)m", picture) if re.search(r"(^|;)(3\d|4\d|9\d)", code)]


def test_a_dumb_terminal_gets_plain_lines(tmp_path: Path) -> None:
    """Nothing on it that it couldn't draw."""
    terminal = Terminal(tmp_path / "run", "crash", TERM="dumb")
    terminal.finish()
    assert "step 1/4  reward 0.250" in terminal.shown
    assert "\x1b" not in terminal.shown
