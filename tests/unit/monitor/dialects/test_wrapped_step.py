"""Metric lines of verl that were wrapped: whole again, or counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from orz_monitor.dialects.verl import Verl
from orz_monitor.loading import load_run
from orz_monitor.log import Log, Row
from orz_monitor.reading import read_chunks

pytestmark = pytest.mark.unit

PREFIX = "(TaskRunner pid=123) "
KEYS = (
    "global_seqlen/min", "global_seqlen/minmax_diff", "actor/kl_loss", "actor/entropy", "actor/pg_loss",
    "actor/pg_clipfrac_lower", "actor/ppo_kl", "actor/grad_norm", "perf/mfu/actor", "actor/lr", "critic/score/mean",
    "critic/score/max", "critic/advantages/min", "response_length_non_aborted/clip_ratio", "timing_s/update_actor",
    "rollout_corr/rollout_is_eff_sample_size", "val-core/openai/gsm8k/reward/mean@1", "timing_per_token_ms/gen",
)  # fmt: skip
BAR = "Training Progress:  34%|███▍ | 2/210 [10:00<20:00, 3.0s/it]"


def values_of(step: int) -> dict[str, float]:
    """Return values of all lengths and forms, different in each step."""
    tenth = [
        (-1) ** i * step * (i + 1) / 10**digits for i, digits in zip(range(len(KEYS)), [1, 3, 17, 9] * 5, strict=False)
    ]
    return dict(zip(KEYS, tenth, strict=True))


def printed(step: int) -> str:
    items = [
        f"{key}:np.float64({value!r})" if at % 3 == 0 else f"{key}:{value!r}"
        for at, (key, value) in enumerate(values_of(step).items())
    ]
    return " - ".join([f"step:{step}", *items])


def by_width(line: str, width: int) -> list[str]:
    """Break a line as a terminal does."""
    return [line[at : at + width] for at in range(0, len(line), width)]


def by_words(line: str, width: int) -> list[str]:
    """Break a line as rich does, which drops the space."""
    rows = [""]
    for word in line.split(" "):
        if rows[-1] and len(rows[-1]) + 1 + len(word) > width:
            rows.append(word)
        else:
            rows[-1] = f"{rows[-1]} {word}".strip()
    return rows


def wrapped(steps: range, width: int, how: str, prefixes: str) -> str:
    """Return a log whose metric lines were broken, with a bar after each."""
    pieces: list[str] = []
    for step in steps:
        line = printed(step)
        rows = (by_width if how == "width" else by_words)(line if prefixes == "each" else PREFIX + line, width)
        pieces += [PREFIX + row for row in rows] if prefixes == "each" else rows
        pieces += [PREFIX + BAR] * (step % 2)
    return "\n".join(pieces) + "\n"


def values(log: Log) -> list[tuple[int | None, dict[str, float]]]:
    return [(row.step, dict(zip(row.keys, row.values, strict=True))) for row in log.rows()]


def read(text: str) -> Log:
    return read_chunks([text.encode()], dialects=[Verl])


@pytest.mark.parametrize("prefixes", ["first", "each"])
@pytest.mark.parametrize("how", ["width", "words"])
@pytest.mark.parametrize("width", [80, 120, 200])
def test_every_value_is_that_of_the_whole_line(tmp_path: Path, width: int, how: str, prefixes: str) -> None:
    """Wherever it was broken: also within keys and numbers, and in a log that is read from its file."""
    text = wrapped(range(1, 31), width, how, prefixes)
    expected = [(step, values_of(step)) for step in range(1, 31)]
    log = read(text)
    assert values(log) == expected
    assert (log.files[0].num_missed_lines, log.texts) == (0, set())
    path = tmp_path / "train.log"
    path.write_text(text, encoding="utf-8")
    run = load_run(path)
    assert run.metrics["policy/kl_ref"].values.tolist() == [values_of(step)["actor/kl_loss"] for step in range(1, 31)]
    assert {key for series in run.metrics.values() for key in series.raw_keys} | {"timing_s/update_actor"} == set(KEYS)
    assert (run.coverage.num_missed_lines, run.coverage.unread) == (0, ())


@pytest.mark.parametrize(("width", "is_seen"), [(80, True), (96, False)], ids=["ends with a dash", "within a key"])
@pytest.mark.parametrize("size", [1, 7, 64])
def test_a_log_that_grows(size: int, width: int, is_seen: bool) -> None:
    """It says in the end what the whole one says; a first line that had to be taken for whole is counted."""
    data = wrapped(range(1, 9), width, "width", "each").encode()
    log = read_chunks([data[at : at + size] for at in range(0, len(data), size)], dialects=[Verl])
    assert values(log)[1:] == [(step, values_of(step)) for step in range(2, 9)]
    assert (values(log)[0] == (1, values_of(1))) is is_seen
    assert bool(log.files[0].num_missed_lines) is not is_seen


def test_a_line_is_whole_where_something_else_follows() -> None:
    """A number by itself, words, a bar, another step, an item of somebody else; and lines of one length."""
    line = "step:{} - actor/pg_loss:0.25 - actor/lr:1e-06"
    others = ["12", "Saving - done:yes", BAR, "", "reward:0.5 - kl:0.1", "0.5", "{'a': 1}"]
    text = "".join(f"{line.format(step)}\n{other}\n" for step, other in enumerate(others * 3, start=1))
    log = read(text)
    assert values(log) == [(step, {"actor/pg_loss": 0.25, "actor/lr": 1e-6}) for step in range(1, 22)]
    assert log.files[0].num_missed_lines == 0


def test_lines_of_other_processes_come_between() -> None:
    """A line that ends where an item follows waits for its own process."""
    log = read(
        f"{PREFIX}step:1 - actor/pg_loss:0.5 -\n(WorkerDict pid=9) loading\n{PREFIX}actor/lr:1e-06 - x:3\n"
        f"{PREFIX}step:2 - actor/pg_loss:0.25 - actor/lr:2e-06 - x:4\n"
    )
    assert values(log) == [
        (1, {"actor/pg_loss": 0.5, "actor/lr": 1e-6, "x": 3}),
        (2, {"actor/pg_loss": 0.25, "actor/lr": 2e-6, "x": 4}),
    ]


@pytest.mark.parametrize(
    ("text", "found", "unread"),
    [
        ("step:1 - a:1 -\nsomething else\nstep:2 - a:2\n", [1, 2], set()),
        ("step:1 - a:1 - critic/sc\nsomething else\nstep:2 - a:2\n", [1, 2], {"critic/sc"}),
        ("step:1 - a:1 -\n", [1], set()),
    ],
    ids=["the rest is missing", "an item is torn", "the log ends"],
)
def test_what_stays_broken_is_counted(text: str, found: list[float], unread: set[str]) -> None:
    """No rest comes: the line has what it has, counts as one that was not read, and names what has no value."""
    log = read(text)
    assert [row.values[0] for row in log.rows()] == found
    assert log.files[0].num_missed_lines == 1
    assert {key for _, key in log.texts} == unread


def test_a_bar_behind_a_rest_is_a_bar() -> None:
    """The last piece ends where it begins."""
    log = read(f"step:1 - a:1 -\nb:2{BAR}\nstep:2 - a:2 - b:3\n")
    assert values(log) == [(1, {"a": 1, "b": 2}), (2, {"a": 2, "b": 3})]
    assert [entry.line for entry in log.entries if not isinstance(entry, Row)] == [2]
