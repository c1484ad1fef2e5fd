"""What is shown of a metric line that may go on in the next one: at once what is sure, and all of it after a while."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orz_monitor.dialects.verl import Verl
from orz_monitor.reading import Reader, read_chunks
from orz_monitor.run import Run
from orz_monitor.tail.key_metrics import last_complete, values_at
from orz_monitor.tail.log_reader import LogReader

pytestmark = pytest.mark.unit

LOGS = Path(os.environ.get("ORZ_TEST_DATA", Path(__file__).parents[5] / "shared" / "data")) / "logs"
RAY = "(TaskRunner pid=123) "


class Clock:
    """A monotonic clock that stands still until it is moved on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr("orz_monitor.tail.log_reader.time.monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Have readers go by this clock."""
    return Clock(monkeypatch)


def step_line(step: int) -> bytes:
    return (
        f"{RAY}step:{step} - actor/pg_loss:0.{step}25 - timing_s/gen:{step}.5123456 - perf/throughput:{step}00.25125 - "
        f"actor/entropy:0.{step}5 - critic/score/mean:0.{step}375\n"
    ).encode()


def told(run: Run) -> tuple[int | None, dict[str, str]]:
    """Return the last step that is told, and what of it."""
    last = last_complete(run)
    return last, dict(values_at(run, last)) if last is not None else {}


def test_the_first_step_is_told_whole_after_a_while(clock: Clock, tmp_path: Path) -> None:
    """Not without its last value, which is the reward; and with it, though no line follows."""
    reader = LogReader(tmp_path / "train.log", None)
    reader.feed(step_line(1))
    assert told(reader.snapshot()) == (None, {})
    clock.now += 0.1
    assert not reader.pause()
    clock.now += 0.15
    assert reader.pause()
    assert told(reader.snapshot()) == (1, {"reward": "0.138", "pg": "0.125", "ent": "0.15"})
    assert not reader.pause()


def test_a_step_is_told_at_once_if_no_metric_of_the_board_is_missing(clock: Clock, tmp_path: Path) -> None:
    """One that ends with a key of no interest is held back as little as one that the line before shows to be whole."""
    reader = LogReader(tmp_path / "train.log", None)
    for step in (1, 2, 3):
        reader.feed(step_line(step))
    assert told(reader.snapshot())[0] == 3
    clock.now += 1
    assert not reader.pause()
    reader.feed(step_line(4).removesuffix(b"\n") + b" - val-core/gsm8k/acc/mean@1:0.512345678\n")
    assert told(reader.snapshot()) == (4, {"reward": "0.438", "pg": "0.425", "ent": "0.45"})
    assert "eval/gsm8k/accuracy" not in reader.snapshot().metrics
    clock.now += 1
    assert reader.pause()
    assert reader.snapshot().series("eval/gsm8k/accuracy").values.tolist() == [0.512345678]


def test_a_step_of_one_value_is_told_after_a_while(clock: Clock, tmp_path: Path) -> None:
    """As verl's first validation is printed; the fallback, which reads along until then, is done with."""
    reader = LogReader(tmp_path / "train.log", None)
    reader.feed(b"(main_task pid=64899) step:0 - test_score/openai/gsm8k:0.521\n")
    assert (dict(reader.snapshot().metrics), reader.fallback is None) == ({}, False)
    clock.now += 1
    assert reader.pause()
    run = reader.snapshot()
    assert (run.framework, reader.fallback) == ("verl", None)
    assert [series.values.tolist() for series in run.metrics.values()] == [[0.521]]


def test_a_bar_that_is_drawn_behind_a_line_is_no_rest(clock: Clock, tmp_path: Path) -> None:
    """It goes on all the time, without a newline; a line that is being written is waited for."""
    bar, text = (LogReader(tmp_path / name, None) for name in ("bar.log", "text.log"))
    for reader, drawn in ((bar, b"\rTraining Progress:  1%|# | 1/99 [00:01<01:30,  1.00s/it]"), (text, b"12")):
        reader.feed(step_line(1))
        clock.now += 0.15
        reader.feed(drawn)
    clock.now += 0.1
    assert (bar.pause(), text.pause()) == (True, False)


@pytest.mark.parametrize("width", [60, 90, 133])
def test_a_rest_that_comes_late_takes_its_place(clock: Clock, tmp_path: Path, width: int) -> None:
    """A wrapped log that is looked at after each piece ends as the one that was not."""
    rows = [line.decode() for step in range(1, 9) for line in (step_line(step).rstrip(),)]
    pieces = [row[at : at + width].encode() + b"\n" for row in rows for at in range(0, len(row), width)]
    reader = LogReader(tmp_path / "train.log", None)
    for piece in pieces:
        reader.feed(piece)
        clock.now += 1
        reader.pause()
        reader.snapshot()
    reader.feed(b"saved\n")
    found = read_chunks([b"".join(pieces) + b"saved\n"], dialects=[Verl])
    said = [(row.line, row.step, row.keys, list(row.values)) for row in reader.reader.log.rows()]
    assert said == [(row.line, row.step, row.keys, list(row.values)) for row in found.rows()]
    assert reader.reader.log.votes["verl"] == found.votes["verl"]


@pytest.mark.parametrize("file", ["ppo-qwen0.5b-full", "ppo-gemma2-2b-full", "amd-grpo-1020-1050"])
def test_each_step_of_a_public_log_is_whole_before_the_next_line(file: str) -> None:
    """Line by line, with a pause behind each: every value of the whole log, at its own line."""
    path = LOGS / f"verl-{file}.log"
    if not path.is_file():
        pytest.skip(f"{path} is not on this machine")
    data = path.read_bytes()
    whole = {
        row.line: dict(zip(row.keys, row.values, strict=True)) for row in read_chunks([data], dialects=[Verl]).rows()
    }
    reader, shown = Reader(dialects=[Verl]), {}
    for number, line in enumerate(data.splitlines(keepends=True), start=1):
        reader.feed(line)
        if number in whole:
            reader.pause()
            shown[number] = dict(zip(reader.log.rows()[-1].keys, reader.log.rows()[-1].values, strict=True))
    last = max(whole)  # without a newline
    assert len(whole) > 30
    assert {at: row for at, row in shown.items() if at < last} == {at: row for at, row in whole.items() if at < last}
