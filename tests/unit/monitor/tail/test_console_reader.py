"""Records that were cut, while they are followed: the console log says how the run went on, as it does to `check`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from orz_monitor.engine import judge
from orz_monitor.loading import load_run
from orz_monitor.records import EventRecord, Record, dumps
from orz_monitor.run import Run, State
from orz_monitor.tail.console_reader import ConsoleReader
from orz_monitor.tail.source import Source, is_over
from orz_monitor.testing import START, healthy_metrics, step_records, write_run

pytestmark = pytest.mark.unit

Followed = Callable[[Path], Source]
TRACEBACK = 'Traceback (most recent call last):\n  File "a.py", line 3, in f\n    g()\nValueError: bad\n'


def line(message: str) -> str:
    return f"2025-11-26 14:12:15.962 | INFO     | orz_train.launch:run:91 - {message}\n"


CONSOLE = (
    "orz-train 0.1.0 | orz_monitor.records v1 | lines in the shapes of ORZ\n"
    + line("start recipe=made-up steps=80")
    + line("checkpoint_saved step=40 path=checkpoints/step_000040")
    + line("checkpoint_saved step=80 path=checkpoints/step_000080")
    + line("finish step=80 reason='all steps done'")
)


@pytest.fixture
def followed() -> Iterator[Followed]:
    """Follow paths until the end of the test."""
    with ExitStack() as sources:
        yield lambda path: sources.enter_context(Source(path))


def now(source: Source) -> Run:
    """Read all there is, and reckon the run."""
    while source.poll() or not source.has_caught_up:
        pass
    run = source.refresh()
    assert run is not None
    return run


def cut_run(folder: Path, console: str, *, age_s: float) -> Path:
    """Write a run whose records end within step 61, all of it so long ago."""
    saved = EventRecord(event="checkpoint_saved", time=START + 80, step=40)
    records: list[Record] = [*step_records(healthy_metrics(60), first_step=1), saved]
    write_run(folder, records, finished=False, console=console)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"v":1,"kind":"step","step":61,"ti\n')
    os.utime(folder / "console.log", (time.time() - age_s,) * 2)
    return folder


@pytest.mark.parametrize("console", [CONSOLE, CONSOLE.partition("\n")[0] + f"\n{TRACEBACK}"], ids=["finished", "died"])
def test_what_is_followed_ends_as_what_is_judged(tmp_path: Path, followed: Followed, console: str) -> None:
    """The same state, events and findings, that records are missing among them."""
    folder = cut_run(tmp_path, console, age_s=86_400)
    run, whole = now(followed(folder)), load_run(folder)
    assert is_over(run)
    assert whole.state is run.state
    assert [(e.event, e.step, e.data) for e in whole.events] == [(e.event, e.step, e.data) for e in run.events]
    assert whole.traceback == run.traceback
    found = [(f.code, f.message, f.file, f.line) for f in judge(run).findings]
    assert [(f.code, f.message, f.file, f.line) for f in judge(whole).findings] == found
    assert ("damaged_records" if console is CONSOLE else "crash") in {code for code, *_ in found}


def test_the_records_have_time_to_say_it_first(
    tmp_path: Path, followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a network's disk the console may be seen before them: what it has just said is not missing yet."""
    folder = cut_run(tmp_path, CONSOLE, age_s=0)
    source = followed(folder)
    run = now(source)
    assert (State.UNFINISHED, None) == (run.state, run.ahead)
    monkeypatch.setattr("orz_monitor.tail.console_reader._LATE_S", 0.0)
    assert source.poll()
    run = now(source)
    assert (State.FINISHED, 80) == (run.state, run.ahead.step if run.ahead is not None else None)


def test_what_the_records_say_as_well_is_there_once(
    tmp_path: Path, followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The console is seen first, and then its record."""
    monkeypatch.setattr("orz_monitor.tail.console_reader._LATE_S", 0.0)
    records = step_records(healthy_metrics(60), first_step=1)
    told = (EventRecord(event=event, time=START, step=60) for event in ("checkpoint_saved", "finish"))
    late: list[Record] = [records[-1], *told]
    folder = write_run(tmp_path, records[:-1], finished=False, console=CONSOLE.replace("step=80", "step=60"))
    source = followed(folder)
    assert State.FINISHED is now(source).state
    with (folder / "metrics.jsonl").open("a") as file:
        file.write("".join(dumps(record) + "\n" for record in late))
    run = now(source)
    assert ["start", "checkpoint_saved", "finish"] == [event.event for event in run.events]
    assert None is run.ahead


def test_a_traceback_that_the_run_survives_is_not_its_end(tmp_path: Path, followed: Followed) -> None:
    """One that was printed just now may be survived, and one after which the log goes on was."""
    folder = cut_run(tmp_path, TRACEBACK, age_s=0)
    assert State.UNFINISHED is now(followed(folder)).state
    os.utime(folder / "console.log", (time.time() - 3600,) * 2)
    source = followed(folder)
    assert State.FAILED is now(source).state
    with (folder / "console.log").open("a") as file:
        file.write(line("start generation"))
    assert State.UNFINISHED is now(source).state


def test_a_console_that_is_written_anew_has_lines_of_its_own(
    tmp_path: Path, followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a copy does that is made again and again: an event is where it is in the file that is there now."""
    monkeypatch.setattr("orz_monitor.tail.console_reader._LATE_S", 0.0)
    folder = cut_run(tmp_path, CONSOLE, age_s=0)
    source = followed(folder)
    now(source)
    (folder / "copy").write_text(f"# copied\n{CONSOLE}")
    (folder / "copy").replace(folder / "console.log")
    run = now(source)
    assert None is not run.ahead
    assert 6 == run.ahead.data["line"]
    assert 1 == sum(event.event == "finish" for event in run.events)


def test_a_long_console_is_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is taken for caught up before its end; what is there is as old as the file."""
    monkeypatch.setattr("orz_monitor.transport.follower._MOST_BYTES", 100)
    path = tmp_path / "console.log"
    path.write_text(CONSOLE)
    os.utime(path, (time.time() - 3600,) * 2)
    reader, polls = ConsoleReader(path), 0
    while not polls or reader.is_behind:
        reader.poll(until=0.0)
        polls += 1
    assert len(CONSOLE) // 100 < polls
    assert ["start", "checkpoint_saved", "checkpoint_saved", "finish"] == [event.event for event in reader.words.said]
    reader.close()


def test_there_may_be_no_console(tmp_path: Path) -> None:
    """It says nothing then, and is not behind."""
    reader = ConsoleReader(tmp_path / "console.log")
    assert not reader.poll(until=0.0)
    assert ([], None, False) == (list(reader.words.said), reader.words.traceback, reader.is_behind)
    reader.close()
