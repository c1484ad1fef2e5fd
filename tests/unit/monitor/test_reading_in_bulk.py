"""What is read many lines at once is read as if each line came alone, and hides nothing from others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from orz_monitor.dialects.crashes import Crashes
from orz_monitor.dialects.engines import Engines
from orz_monitor.dialects.orz.dialect import Orz
from orz_monitor.dialects.verl.dialect import Verl
from orz_monitor.lanes import without_other_ranks
from orz_monitor.ledger import ledger_of
from orz_monitor.log import Event, Log, Row
from orz_monitor.numbers import floats
from orz_monitor.reading import read_chunks
from orz_monitor.row_steps import numbered
from orz_monitor.tail.log_reader import LogReader
from orz_monitor.transport.batch import Batch
from orz_monitor.transport.needles import Needles
from orz_monitor.transport.places import are, places_of

pytestmark = pytest.mark.unit

RAY = "\x1b[36m(TaskRunner pid=12)\x1b[0m "


def rows(log: Log) -> list[Row]:
    return log.rows()


def bar(done: int, value: str, role: str = "Actor") -> str:
    return f"{role} Train epoch [1/1]:  50%|███ | {done}/18 [02:06<00:06,  6.57s/it, pg={value}, kl=0.1]"


def test_places_in_the_rest_are_places_in_the_text() -> None:
    """Every byte of the rest is found again, whatever was taken, and lines are counted in any order."""
    text = b"0123\n567\n9abcdef\nh\n"
    batch = Batch(text, first_line=3)
    for start, stop in ((9, 12), (0, 2), (17, 17)):
        batch.take(start, stop)
    rest = batch.rest()
    assert rest == b"23\n567\ncdef\nh\n"
    assert bytes(text[at] for at in batch._places(np.arange(len(rest))).tolist()) == rest
    assert [batch.line_at(place) for place in (17, 4, 0, 5, 16, 9)] == [6, 3, 3, 4, 5, 5]
    assert batch.num_lines == 4


def test_lines_that_begin_alike_are_found_with_their_numbers() -> None:
    """The first and the last, not one within a line, nor one that is shorter."""
    batch = Batch(b"step:1\nx step:2\n\nstep\nstep:\nstep:3 y\n", first_line=10)
    begins, ends, numbers = batch.lines_beginning(b"step:")
    assert (begins.tolist(), ends.tolist(), numbers.tolist()) == ([0, 22, 28], [6, 27, 36], [10, 14, 15])
    assert not any(map(len, batch.lines_beginning(b"a line that is longer than all of the text together is")))


@pytest.mark.parametrize(
    "text", [b"", b"\n", b"a", b"a\n\nb\n", b"1234567\n", b"12345678\n", b"\n" * 17, b"ab" * 40, b"a\n\nb" * 9]
)
def test_a_byte_is_found_at_all_its_places(text: bytes) -> None:
    """Whatever the length of the text."""
    assert places_of(text, b"\n").tolist() == [at for at, byte in enumerate(text) if byte == ord("\n")]


def test_a_piece_is_found_at_some_of_its_places() -> None:
    """All its bytes count, those of a NUL at its end, too."""
    text = b"kl:1 kl\0 lr:kl:"
    places = np.array([0, 5, 12, 0])
    assert are(text, b"kl:", places).tolist() == [True, False, True, True]
    assert are(text, b"kl\0", places).tolist() == [False, True, False, False]


def test_many_numbers_are_read_as_few_are() -> None:
    """Every bit of each is what Python reads."""
    texts = [repr(value) for value in (0.1, -0.0, 1e-320, 1.7976931348623157e308, 12345678901234567890, -7, 5e-324)]
    for repeated in (1, 14, 15, 10_000):  # seven each
        found = floats(",".join(texts * repeated).encode())
        assert found is not None
        assert found.tobytes() == np.array([float(text) for text in texts * repeated]).tobytes()
    assert floats(b"") is not None
    assert floats(b",".join([b"1"] * 200 + [b"x"])) is None
    many = floats(b",".join([b"1"] * 200 + [b"inf"]))
    assert many is not None
    assert many.tolist() == [1.0] * 200 + [float("inf")]


def test_needles_without_a_byte_that_is_there_are_not_in_the_text() -> None:
    """However short they are, and whatever word of them is there."""
    needles = Needles([b"Killed", b"step:", b"RuntimeError"])
    assert needles.possible(b"step by step, the time Error") == set()
    assert Needles([b""]).possible(b"any text") == {b""}
    assert {b"step:", b"RuntimeError"} <= needles.possible(b"xRuntimeError at step:1")


def test_rows_of_lines_that_alternate_are_in_the_order_of_the_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two forms of an engine's record have the same keys, so that no part of the rows stands in one piece."""
    throughput = "(LLMActor pid=1) Avg prompt throughput: {}.5 tokens/s, Running: 2 reqs"
    lines = [throughput.format(at) + ", Swapped of late" * (at % 2) for at in range(4000)]
    chunks = [("\n".join(lines[at : at + 50]) + "\n").encode() for at in range(0, len(lines), 50)]
    monkeypatch.setattr("orz_monitor.log._TOGETHER_BYTES", 8000)
    log = read_chunks(chunks, dialects=[Engines])
    assert 2 <= len(log.bulk) < 80, "parts were put together"
    assert [row.values.tolist() for row in rows(log)] == [[at + 0.5, 2.0] for at in range(4000)]
    ledger = ledger_of(log)
    assert ledger.line.tolist() == list(range(1, 4001))
    assert ledger.tables[0][0, ledger.at].tolist() == [at + 0.5 for at in range(4000)]
    assert not log.bulk, "the ledger has them"


def metric_lines(steps: range, value: float = 0.5) -> str:
    return "".join(f"{RAY}step:{step} - actor/pg_loss:{step + value} - actor/lr:1e-06\n" for step in steps)


def test_an_event_among_rows_in_bulk_is_of_the_step_before_it() -> None:
    """Though no row in bulk is an entry of the log."""
    skipped = f"{RAY}WARN: rank 0 grad_norm is not finite: nan\n"
    text = metric_lines(range(1, 151)) + skipped + metric_lines(range(151, 200)) + skipped + skipped
    log = read_chunks(
        [metric_lines(range(-200, 1)).replace("step:-", "step:0").encode(), text.encode()], dialects=[Verl]
    )
    assert sum(len(found) for found in log.bulk) >= 199
    ledger = numbered(log, [Verl()])
    assert [entry.step for entry in log.entries if isinstance(entry, Event)] == [150, 199, 199]
    assert ledger.step[-199:].tolist() == list(range(1, 200))


def test_a_run_of_rows_in_bulk_can_be_told_again_and_again() -> None:
    """As `tail` does while a log grows: what a snapshot does to its copy leaves the log as it was."""
    throughput = "Avg prompt throughput: 1.5 tokens/s, Avg generation throughput: {}.0 tokens/s"
    engine = f"(LLMActor pid=1) {throughput}, Running: 2 reqs\n"
    reader = LogReader(Path("train.log"), None)
    for start in (0, 100, 200):
        for step in range(start, start + 100, 10):
            lines = "".join(engine.format(step + at) for at in range(20)) + metric_lines(range(step, step + 10))
            reader.feed(lines.encode())
    assert {found.dialect for found in reader.reader.log.bulk} == {"engines", "verl"}
    assert {entry.dialect for entry in reader.reader.log.entries} == {"engines", "verl"}  # the first ones, alone
    first, second = reader.snapshot(), reader.snapshot()
    rates = first.metrics["engine/generation_tokens_per_second"]
    assert rates.steps.tolist() == list(range(0, 300, 10))
    assert rates.values.tolist() == [step + 9.5 for step in range(0, 300, 10)]  # the mean of 20 lines
    assert first.metrics["policy/loss"].values.tolist() == [step + 0.5 for step in range(300)]
    assert second.metrics["engine/generation_tokens_per_second"].values.tolist() == rates.values.tolist()


def test_a_validation_among_metric_lines_is_of_the_step_before_it() -> None:
    """Metric lines are read first, yet a validation that stands after step 1 is not of step 3."""
    lines = [
        f"{RAY}step:1 - actor/pg_loss:0.5",
        f"{RAY}Initial validation metrics: {{'val/test_score/gsm8k': 0.25}}",
        f"{RAY}step:2 - actor/pg_loss:0.25",
        f"{RAY}step:3 - actor/pg_loss:0.125",
    ]
    log = read_chunks([("\n".join(lines) + "\n").encode()], dialects=[Verl])
    assert [(row.line, row.step, row.axis, row.values.tolist()) for row in rows(log)] == [
        (1, 1, "", [0.5]),
        (2, 1, "eval", [0.25]),
        (3, 2, "", [0.25]),
        (4, 3, "", [0.125]),
    ]


def test_a_validation_among_rows_in_bulk_is_of_the_step_before_it() -> None:
    """Though the rows of all steps of the batch are there before it is read."""
    validation = f"{RAY}Initial validation metrics: {{'val/test_score/gsm8k': 0.25}}\n"
    text = metric_lines(range(100, 170)) + validation + metric_lines(range(170, 240)) + validation
    log = read_chunks([metric_lines(range(100)).encode(), text.encode()], dialects=[Verl])
    assert sum(len(found) for found in log.bulk) == 140
    assert [(row.line, row.step) for row in rows(log) if row.axis == "eval"] == [(171, 169), (242, 239)]


def test_dialects_have_learnt_from_the_beginning_of_a_first_chunk() -> None:
    """What follows in it is read in bulk already."""
    lines = [f"{RAY}step:{step} - actor/pg_loss:{step}.5 - actor/lr:1e-06\n" for step in range(20_000)]
    log = read_chunks(["".join(lines).encode()], dialects=[Verl])
    assert sum(len(found) for found in log.bulk) > 15_000
    assert [(row.line, row.step, row.values[0]) for row in rows(log)] == [
        (at + 1, at, at + 0.5) for at in range(20_000)
    ]


def test_a_process_that_takes_over_within_a_batch_is_read_too() -> None:
    """A restarted driver has another process id, so another prefix."""
    lines = [f"(TaskRunner pid={pid}) step:{step} - actor/pg_loss:{step}.5" for pid, step in ((1, 1), (1, 2), (2, 2))]
    log = read_chunks([("\n".join(lines) + "\n").encode()], dialects=[Verl])
    assert [(row.line, row.origin.pid, row.step, row.values.tolist()) for row in rows(log)] == [
        (1, "1", 1, [1.5]),
        (2, "1", 2, [2.5]),
        (3, "2", 2, [2.5]),
    ]


@pytest.mark.parametrize("between", ["\n", "\r", "\nRuntimeError: CUDA error: an illegal address\n"])
def test_a_fault_between_two_bars_is_found(between: str) -> None:
    """Bars are taken out of what is searched for faults; what stands between them is not."""
    text = f"x\n{bar(1, '0.5')}\r{bar(2, '0.5')}{between}{bar(3, '0.25')}\nend\n"
    log = read_chunks([text.encode()], dialects=[Orz, Crashes])
    assert [row.values.tolist() for row in rows(log)] == [[0.375, 0.1]]
    faults = [(entry.line, entry.data["kind"]) for entry in log.entries if isinstance(entry, Event)]
    assert faults == ([(3, "cuda_error")] if "CUDA" in between else [])


def test_a_bar_of_another_program_is_not_an_actors() -> None:
    """A bar without a postfix does not get that of a bar on a later line."""
    text = (
        "Actor Train epoch [1/1]:   0%| | 0/18 [00:00<?, ?it/s]\nCapturing:  50%|█| 1/2 [00:01<00:01,  1.50s/it, n=3]\n"
    )
    assert not rows(read_chunks([text.encode()], dialects=[Orz]))


def test_processes_count_as_ranks_only_where_their_steps_meet() -> None:
    """Of two processes at once, the second loses the steps that the first has; of one after another, none."""
    log = Log()
    log.begin(Path("engines.log"))
    lines = [(1, 1), (2, 1), (1, 2), (2, 3), (1, 4), (3, 4)]
    text = "\n".join(
        f"(LLMActor pid={pid}) Avg prompt throughput: {step}.0 tokens/s, Running: 2 reqs" for pid, step in lines
    )
    read_chunks([text.encode()], log=log, dialects=[Engines])
    found = rows(log)
    for row, (_, step) in zip(found, lines, strict=True):
        row.step = step
    kept, num_left_out = without_other_ranks(ledger_of(log), log.files)
    pids = [kept.processes[number].pid for number in kept.process.tolist()]
    assert list(zip(pids, kept.step.tolist(), strict=True)) == [("1", 1), ("1", 2), ("2", 3), ("1", 4), ("3", 4)]
    assert num_left_out == 1
