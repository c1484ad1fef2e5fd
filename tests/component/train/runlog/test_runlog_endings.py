"""How a run log ends, by itself, by an error or by a full disk: the reason is recorded, and the summary is one."""

from __future__ import annotations

import io
import logging
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from orz_monitor.records import EventRecord, StepRecord
from orz_train.config.schema import Config
from orz_train.errors import DataError
from orz_train.runlog import LogWriteError, RunFolder, RunLog
from orz_train.types import StepReport

pytestmark = pytest.mark.component

NUM_STEPS = 4
MakeConfig = Callable[..., Config]
MakeReport = Callable[..., StepReport]
Records = Callable[[Path], list[StepRecord | EventRecord]]


@pytest.mark.parametrize(("file", "part"), [("metrics.jsonl", "_metrics"), ("console.log", "_console")])
def test_a_full_disk_ends_the_run_with_a_clear_error(
    log_in: Callable[..., Path],
    tmp_path: Path,
    streams: dict[str, io.StringIO],
    file: str,
    part: str,
    make_report: MakeReport,
    records: Records,
) -> None:
    """Exit code 1, the file and the next step; everything that was opened is closed and unlocked."""

    def body(log: RunLog) -> None:
        log.event("start")
        log.write(make_report(1))
        with Path("/dev/full").open("ab") as full:
            os.dup2(full.fileno(), getattr(log, part)._file.fileno())
        log.write(make_report(2))

    with pytest.raises(LogWriteError, match=rf"{file}: can't be written: No space left on device") as caught:
        log_in(body)
    assert 1 == caught.value.exit_code
    assert [1] == [record.step for record in records(tmp_path / "run")[1:2]]
    assert not (tmp_path / "run" / ".lock").exists()
    assert [] == [h for h in logging.getLogger("orz_train").handlers if h.__class__.__module__.startswith("orz_train")]
    assert "" == streams["stdout"].getvalue()


@pytest.mark.parametrize(
    ("error", "event", "traceback", "message"),
    [
        (RuntimeError("boom"), "error", True, "RuntimeError: boom"),
        (DataError("row 7 is odd", remedy="mend it"), "error", False, "row 7 is odd"),
        (KeyboardInterrupt(), "interrupted", False, None),
    ],
)
def test_why_a_run_ends_is_recorded(
    log_in: Callable[..., Path],
    streams: dict[str, io.StringIO],
    tmp_path: Path,
    error: BaseException,
    event: str,
    traceback: bool,
    message: str | None,
    make_report: MakeReport,
    records: Records,
) -> None:
    """Only what nobody foresaw has a traceback, at the end of the log; only what didn't fail has a summary."""

    def crash(log: RunLog) -> None:
        log.event("start")
        log.write(make_report(1))
        raise error

    with pytest.raises(type(error)):
        log_in(crash)
    last = records(tmp_path / "run")[-1]
    assert isinstance(last, EventRecord)
    assert (event, 1, message) == (last.event, last.step, last.data.get("message"))
    console = (tmp_path / "run" / "console.log").read_text()
    assert traceback == ("Traceback" in console)
    assert traceback == console.endswith("RuntimeError: boom\n")
    assert (event == "interrupted") == streams["stdout"].getvalue().startswith("\ntiny interrupted: 1 of 4 steps")
    assert "boom" not in streams["stderr"].getvalue()


class _Screen(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("variables", "coloured", "bold"),
    [
        ({"TERM": "xterm-256color"}, True, True),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, False, True),
        ({"TERM": "dumb"}, False, False),
    ],
)
def test_a_summary_has_colours_on_a_terminal_alone(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    *,
    coloured: bool,
    bold: bool,
    make_config: MakeConfig,
    make_report: MakeReport,
) -> None:
    """`NO_COLOR` takes the colours away, a terminal without escapes gets none, and the words are the same."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    screen = _Screen()
    with (
        RunFolder(make_config(), tmp_path / "run") as folder,
        RunLog(folder, num_steps=NUM_STEPS, stdout=screen, stderr=io.StringIO()) as log,
    ):
        log.write(make_report(1))
        log.event("finish", reason="all steps done")
    shown = screen.getvalue()
    assert (coloured, bold) == ("\x1b[1;36m" in shown, "\x1b[1m" in shown)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert plain.startswith("\ntiny finished: 1 of 4 steps in 0:01\n\n  reward      0.250\n")
    assert f"  log         {tmp_path / 'run' / 'console.log'}\n" in plain


def test_closing_twice_writes_one_summary(
    log_in: Callable[..., Path], streams: dict[str, io.StringIO], make_report: MakeReport
) -> None:
    """By hand and at the end of the context."""

    def body(log: RunLog) -> None:
        log.write(make_report(1))
        log.close()

    log_in(body)
    assert 1 == streams["stdout"].getvalue().count("tiny stopped: 1 of 4 steps")
