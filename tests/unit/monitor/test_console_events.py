"""Records that were cut: the console log beside them says how the run went on."""

from __future__ import annotations

from pathlib import Path

import pytest

from orz_cli.findings import Severity
from orz_monitor.engine import judge
from orz_monitor.loading import load_run
from orz_monitor.records import EventRecord
from orz_monitor.run import State
from orz_monitor.testing import START, healthy_metrics, step_records, write_run

pytestmark = pytest.mark.unit

HEADER = "orz-train 0.1.0 | orz_monitor.records v1 | lines in the shapes of ORZ\n"
LATE = START + 1e6


def line(message: str, place: str = "orz_train.launch:run:91") -> str:
    return f"2025-11-26 14:12:15.962 | INFO     | {place} - {message}\n"


CONSOLE = (
    HEADER
    + line("start recipe=made-up steps=80")
    + line("checkpoint_saved step=40 path=checkpoints/step_000040")
    + line("checkpoint_saved step=80 path=checkpoints/step_000080")
    + line("finish step=80 reason='all steps done' _ray_timestamp_ns=1795702335962082636")
)


def cut_run(folder: Path, console: str, *events: EventRecord) -> Path:
    """Write a run whose records end after step 60."""
    records = step_records(healthy_metrics(60), first_step=1)
    return write_run(folder, [*records, *events], finished=False, console=console)


def test_a_finished_run_whose_records_were_cut_is_not_dead(tmp_path: Path) -> None:
    """It finished, its later checkpoints are known, and that the records of 20 steps are missing is said."""
    saved = EventRecord(event="checkpoint_saved", time=START + 80, step=40)
    folder = cut_run(tmp_path, CONSOLE, saved)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"v":1,"kind":"step","step":61,"ti')
    run = load_run(folder, now=LATE)
    assert State.FINISHED is run.state
    assert (40, 80) == run.marks("checkpoint_saved")
    (finding,) = judge(run).findings
    assert ("damaged_records", Severity.WARN) == (finding.code, finding.severity)
    assert "metrics.jsonl ends after step 60, and the console log goes on to step 80" in finding.message
    assert (folder / "console.log", 5) == (finding.file, finding.line)


def test_lines_that_are_damaged_are_told_beside_steps_that_are_missing(tmp_path: Path) -> None:
    """A bad copy has both."""
    folder = cut_run(tmp_path, CONSOLE)
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text("".join([*lines[:20], "{{{\n", *lines[20:]]))
    found = judge(load_run(folder, now=LATE)).findings
    assert [("damaged_records", Severity.WARN)] * 2 == [(finding.code, finding.severity) for finding in found]
    assert any("line 21" in finding.message for finding in found)


def test_only_the_last_word_is_missing(tmp_path: Path) -> None:
    """All steps have their records: there is nothing to report."""
    run = load_run(cut_run(tmp_path, CONSOLE.replace("80 ", "60 ")), now=LATE)
    assert State.FINISHED is run.state
    assert () == judge(run).findings


def test_whole_records_get_no_event_from_the_console(tmp_path: Path) -> None:
    """What stands in both is there once, also where a resumed run goes on from before its last step."""
    events = [EventRecord(event=name, time=START + 121, step=60) for name in ("checkpoint_saved", "finish")]
    resumed = "interrupted step=70", "resume step=50", "checkpoint_saved step=60", "finish step=60"
    folder = cut_run(tmp_path, HEADER + line("start recipe=made-up") + "".join(map(line, resumed)), *events)
    assert ["start", "checkpoint_saved", "finish"] == [event.event for event in load_run(folder).events]


@pytest.mark.parametrize(
    "console",
    [
        HEADER + line("finish step=80 reason='my own'", place="my_reward:reward:3") + "finish step=80\n",
        HEADER + line("interrupted step=30") + line("resume step=30"),
        "",
    ],
    ids=["words of a reward function", "of steps before", "no console"],
)
def test_other_lines_end_no_run(tmp_path: Path, console: str) -> None:
    """The run was killed after step 60, and that is what is found."""
    run = load_run(cut_run(tmp_path, console), now=LATE)
    assert State.UNFINISHED is run.state
    assert ["stall"] == [finding.code for finding in judge(run).findings]


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        ("ValueError", "ValueError"),
        ("'no space left on /data'", "no space left on /data"),
        ('"it\'s full"', "it's full"),
        ("'a=1 is not b=2'", "a=1 is not b=2"),
    ],
)
def test_an_error_that_only_the_console_has(tmp_path: Path, shown: str, words: str) -> None:
    """The run failed, and why is said."""
    console = HEADER + line(f"error step=60 message={shown} _ray_timestamp_ns=1795702335962082636")
    (finding,) = judge(load_run(cut_run(tmp_path, console), now=LATE)).findings
    assert "crash" == finding.code
    assert f"The run ended after step 60 with an error: {words}" == finding.message
