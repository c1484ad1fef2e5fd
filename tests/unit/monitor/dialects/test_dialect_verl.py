"""verl's console lines, every era: values, steps, validations, and what was not finite."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orz_monitor.dialects.verl.dialect import Verl
from orz_monitor.loading import load_run
from orz_monitor.log import Event, Log, Row, Tick
from orz_monitor.reading import read_chunks

pytestmark = pytest.mark.unit

LOGS = Path(os.environ.get("ORZ_TEST_DATA", Path(__file__).parents[5] / "shared" / "data")) / "logs"


def read(*lines: str) -> Log:
    return read_chunks([("\n".join(lines) + "\n").encode()], dialects=[Verl])


def rows(log: Log) -> list[Row]:
    return log.rows()


def values(row: Row) -> dict[str, float]:
    return dict(zip(row.keys, row.values, strict=True))


def test_numpys_wrappers_are_values_too() -> None:
    """What numpy 2 prints is read as what a tensor's item prints."""
    row = rows(
        read(
            "(TaskRunner pid=12) step:7 - actor/pg_loss:np.float64(-0.0123) - actor/lr:1e-06"
            " - critic/score/mean:np.float32(0.5) - val-core/gsm8k/acc/mean@1:nan - timing_s/step:12"
        )
    )[0]
    assert row.step == 7
    assert row.origin.pid == "12"
    assert values(row)["actor/pg_loss"] == -0.0123
    assert values(row)["critic/score/mean"] == 0.5
    assert values(row)["timing_s/step"] == 12
    assert str(row.values[3]) == "nan"


def test_an_underscore_is_none_of_a_number() -> None:
    """Though Python's `float` takes it; the other values of its line are read."""
    row = rows(read("step:7 - actor/pg_loss:1_0 - actor/lr:1e-06"))[0]
    assert values(row) == {"actor/lr": 1e-6}


BAR = "Training Progress:  34%|███▍ | 2/210 [10:00<20:00, 3.0s/it]"


@pytest.mark.parametrize("between", ["", " ", "\x1b[0m", "\r", "\x1b[36m(TaskRunner pid=12)\x1b[0m "])
def test_metrics_glued_behind_a_bar_are_read(between: str) -> None:
    """A bar that ended without a newline hides neither the metrics behind it nor those of the lines around."""
    log = read(
        "(TaskRunner pid=12) step:1 - actor/pg_loss:0.5 - actor/lr:1e-06",
        f"(TaskRunner pid=12) {BAR}{between}step:2 - actor/pg_loss:nan - actor/lr:2e-06",
        "(TaskRunner pid=12) step:3 - actor/pg_loss:0.25 - actor/lr:3e-06",
    )
    assert [(row.line, row.step, row.origin.pid) for row in rows(log)] == [(1, 1, "12"), (2, 2, "12"), (3, 3, "12")]
    assert [str(values(row)["actor/pg_loss"]) for row in rows(log)] == ["0.5", "nan", "0.25"]
    assert [values(row)["actor/lr"] for row in rows(log)] == [1e-6, 2e-6, 3e-6]
    assert [entry.done for entry in log.entries if isinstance(entry, Tick)] == [2]


def test_a_bar_glued_behind_metrics_takes_no_value() -> None:
    """The last value of the line ends where the bar begins."""
    log = read(f"step:1 - actor/pg_loss:0.5 - actor/lr:1e-06{BAR}", f"step:2 - actor/pg_loss:np.float64(0.25){BAR}")
    assert [values(row) for row in rows(log)] == [{"actor/pg_loss": 0.5, "actor/lr": 1e-6}, {"actor/pg_loss": 0.25}]
    assert [entry.line for entry in log.entries if isinstance(entry, Tick)] == [1, 2]


def test_lines_that_change_their_keys_are_read_by_their_keys() -> None:
    """A line of another layout, and one whose value is suddenly wrapped, are not read by position."""
    log = read(
        "step:1 - actor/pg_loss:0.5 - actor/lr:1e-6",
        "step:2 - actor/lr:2e-6 - actor/pg_loss:0.25",
        "step:3 - actor/pg_loss:np.float64(0.75) - actor/lr:3e-6",
        "step:4 - actor/pg_loss:None - actor/lr:4e-6",
        "step:5 - actor/pg_loss:1.5 - actor/lr:5e-6",
    )
    assert [values(row).get("actor/pg_loss") for row in rows(log)] == [0.5, 0.25, 0.75, None, 1.5]
    assert [values(row)["actor/lr"] for row in rows(log)] == [1e-6, 2e-6, 3e-6, 4e-6, 5e-6]
    assert ("verl", "actor/pg_loss") in log.texts


def test_a_validation_over_several_lines_is_the_last_steps() -> None:
    """What does not fit is wrapped by pprint, and lines of other processes come between."""
    log = read(
        "(TaskRunner pid=1) step:20 - actor/pg_loss:0.5",
        "(TaskRunner pid=1) (\"Initial validation metrics: {'val-core/gsm8k/acc/mean@1': \"",
        "(WorkerDict pid=9) step:99 is not for you",
        "(TaskRunner pid=1)  \"0.5, 'val-aux/num_turns/mean': 2.0}\")",
        "(TaskRunner pid=1) step:21 - actor/pg_loss:0.25",
    )
    steps = [(row.step, row.axis, row.line) for row in rows(log)]
    assert steps == [(20, "", 1), (20, "eval", 2), (21, "", 5)]
    assert values(rows(log)[1]) == {"val-core/gsm8k/acc/mean@1": 0.5, "val-aux/num_turns/mean": 2.0}


CRASH = (
    "Traceback (most recent call last):",
    '  File "x.py", line 3, in f',
    "torch.OutOfMemoryError: CUDA out of memory.",
)


@pytest.mark.parametrize("prefix", ["", "(TaskRunner pid=1) "])
@pytest.mark.parametrize(
    ("begun", "found"),
    [
        ("'a/b': 0.25,", {"a/b": 0.25}),
        ("'a/b': 0.25, 'c/d': 0.", {"a/b": 0.25}),
        ("'a/b': 0.25, '", {"a/b": 0.25}),
    ],
)
def test_a_crash_within_a_validation_is_a_crash(prefix: str, begun: str, found: dict[str, float]) -> None:
    """The dictionary without an end is counted, its last value may be half a one, and the run has not finished."""
    lines = ["step:1 - a/b:0.5 - c/d:2", f'("Final validation metrics: {{{begun}', *CRASH, "step:2 - a/b:0.5 - c/d:3"]
    log = read_chunks([("\n".join(prefix + line for line in lines) + "\n").encode()])
    assert [(entry.event, entry.line) for entry in log.entries if isinstance(entry, Event)] == [("fault", 5)]
    assert [(row.step, row.axis, values(row)) for row in rows(log)][1:] == [
        (1, "eval", found),
        (2, "", values(rows(log)[2])),
    ]
    assert log.files[0].num_missed_lines == 1


@pytest.mark.parametrize("cut", range(1, 65))
def test_a_validation_goes_on_wherever_a_terminal_broke_it(cut: int) -> None:
    """Within a key, a value or what stands between them."""
    items = "{'val-core/gsm8k/acc/mean@1': 0.125, 'b': np.float64(-2.5e-07)}\")"
    log = read(f'("Final validation metrics: {items[:cut]}', items[cut:], "saved")
    assert [values(row) for row in rows(log)] == [{"val-core/gsm8k/acc/mean@1": 0.125, "b": -2.5e-07}]
    assert [(entry.event, entry.line) for entry in log.entries if isinstance(entry, Event)] == [("finish", 1)]
    assert log.files[0].num_missed_lines == 0


def test_what_cannot_go_on_with_a_validation_is_read_by_itself() -> None:
    """An update that was skipped, and what sets the step; the end of the log is an end as well."""
    log = read(
        "(\"Initial validation metrics: {'a/b': 0.25,",
        "rank 0 grad_norm is not finite: nan",
        "Setting global step to 5",
        "(\"Final validation metrics: {'a/b': 0.5,",
    )
    assert [entry.event for entry in log.entries if isinstance(entry, Event)] == ["skipped_update", "resume"]
    assert [values(row) for row in rows(log)] == [{"a/b": 0.25}, {"a/b": 0.5}]
    assert log.files[0].num_missed_lines == 2


def test_a_resume_and_a_skipped_update_are_events() -> None:
    """What the trainer says in words is kept with its line."""
    log = read("Setting global step to 120", "(WorkerDict pid=4) WARN: rank 3 grad_norm is not finite: nan")
    resume, skipped = [entry for entry in log.entries if isinstance(entry, Event)]
    assert (resume.event, resume.step, resume.line) == ("resume", 120, 1)
    assert (skipped.event, skipped.data["rank"], skipped.data["reason"]) == ("skipped_update", 3, "grad_norm nan")


def test_old_logs_say_how_precisely_they_were_printed() -> None:
    """Three decimals are three decimals: 0.000 is below its quantum, not zero."""
    log = read("step:1 - actor/lr:0.000 - x:0.123456789012", "step:2 - actor/lr:0.001 - x:1.5")
    precision = log.precisions["verl", "actor/lr"]
    assert (precision.kind, precision.decimals) == ("fixed", (3, 3))
    assert log.precisions["verl", "x"].kind == "exact"


@pytest.mark.parametrize(
    ("file", "steps", "sets"),
    [
        ("verl-ppo-gemma2-2b-full.log", range(106), 1),
        ("verl-ppo-qwen0.5b-full.log", range(435), 2),
        ("verl-amd-grpo-1020-1050.log", range(1020, 1051), 0),
    ],
)
def test_public_logs_lose_no_value(file: str, steps: range, sets: int) -> None:
    """Every step of the log is there, and every numeric item of its line is a value."""
    path = LOGS / file
    if not path.is_file():
        pytest.skip(f"{path} is not on this machine")
    data = path.read_bytes().rstrip(b"\n") + b"\n"  # without a newline, the last number might be half
    log = read_chunks([data], dialects=[Verl])
    trained = [row for row in rows(log) if not row.axis]
    assert list(dict.fromkeys(row.step for row in trained)) == list(steps)
    assert len(rows(log)) - len(trained) == sets
    lines = data.split(b"\n")
    for row in trained:
        items = lines[row.line - 1].split(b" - ")[1:]
        assert len(items) == len(row.values)
        assert [float(item.rsplit(b":", 1)[1]) for item in items] == row.values.tolist()


def test_a_comma_between_thousands_moves_no_other_value(tmp_path: Path) -> None:
    """Three lines alike, one of whose values has two commas."""
    path = tmp_path / "train.log"
    line = "step:{} - perf/total_num_tokens:1,234,567 - critic/score/mean:0.5\n"
    path.write_text("".join(line.format(i) for i in range(3)))
    run = load_run(path)
    assert run.series("reward/mean").values.tolist() == [0.5] * 3
    assert {1_234_567.0} == {
        value
        for series in run.metrics.values()
        if "perf/total_num_tokens" in series.raw_keys
        for value in series.values
    }
