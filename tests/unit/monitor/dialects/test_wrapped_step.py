"""Metric lines of verl that were wrapped: whole again, or counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from orz_monitor.dialects.verl.dialect import Verl
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


@pytest.mark.parametrize("width", [80, 96], ids=["ends with a dash", "within a key"])
@pytest.mark.parametrize("size", [1, 7, 64])
def test_a_log_that_grows(size: int, width: int) -> None:
    """It says in the end what the whole one says."""
    data = wrapped(range(1, 9), width, "width", "each").encode()
    log = read_chunks([data[at : at + size] for at in range(0, len(data), size)], dialects=[Verl])
    assert values(log) == [(step, values_of(step)) for step in range(1, 9)]
    assert (log.files[0].num_missed_lines, log.votes["verl"]) == (0, 8)


def test_a_line_is_whole_where_something_else_follows() -> None:
    """A number that fits on none, words, a bar, another step, an item of somebody else; and lines of one length."""
    line = "step:{} - actor/pg_loss:0.25 - actor/lr:1e-06"
    others = ["Saving - done:yes", BAR, "", "reward:0.5 - kl:0.1", "0.5", "{'a': 1}"]
    text = "".join(f"{line.format(step)}\n{other}\n" for step, other in enumerate(others * 3, start=1))
    log = read(text)
    assert values(log) == [(step, {"actor/pg_loss": 0.25, "actor/lr": 1e-6}) for step in range(1, 19)]
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
    log = read(f"step:1 - a:1 -\nx/b:2{BAR}\nstep:2 - a:2 - x/b:3\n")
    assert values(log) == [(1, {"a": 1, "x/b": 2}), (2, {"a": 2, "x/b": 3})]
    assert [entry.line for entry in log.entries if not isinstance(entry, Row)] == [2]


WHOLE = {"actor/pg_loss": 0.5, "actor/lr": 1e-6, "critic/score/mean": 0.75, "a/b": -12.25, "kl": 2.5}
CUT = "step:3 - actor/pg_loss:0.5 - actor/lr:1e-06 - critic/score/mean:np.float64(0.75) - a/b:-12.25 - kl:2.5"


@pytest.mark.parametrize("is_learnt", [False, True])
@pytest.mark.parametrize("prefixes", [("", ""), (PREFIX, ""), (PREFIX, PREFIX)])
@pytest.mark.parametrize("cut", range(len("step:3 - a"), len(CUT)))
def test_a_line_cut_in_two_anywhere_says_nothing_wrong(cut: int, prefixes: tuple[str, str], is_learnt: bool) -> None:
    """Each value is right, or is not there and the line is counted; also behind whole lines, and in bulk."""
    before = "".join(f"{prefixes[0]}{CUT.replace('step:3', f'step:{step}')}\n" for step in (1, 2)) * 4 * is_learnt
    log = read(f"{before}{prefixes[0]}{CUT[:cut]}\n{prefixes[1]}{CUT[cut:]}\nstep:4 - kl:1\n")
    found = next((row for step, row in values(log) if step == 3), {})
    assert found.items() <= WHOLE.items()
    assert found == WHOLE or log.files[0].num_missed_lines > 0
    assert values(log)[-1] == (4, {"kl": 1})


def test_tails_of_numbers_are_never_dropped_silently() -> None:
    """Every line was cut in its last number: none of them says 1.0, in one batch and in many."""
    text = "".join(f"{PREFIX}step:{step} - a/b:{step} - actor/lr:1\n{PREFIX}e-06\n" for step in range(1, 10))
    log = read(text + text)
    assert values(log) == [(step, {"a/b": step}) for step in range(1, 10)] * 2
    assert log.files[0].num_missed_lines == 18


def test_the_width_holds_for_a_line_of_exactly_two_pieces() -> None:
    """Steps in pieces of 40 teach it; the last line has 40 characters, and `e3` of its number is below."""
    steps = ["\n".join(by_width(printed(step), 40)) for step in range(1, 4)]
    line = "step:4 - actor/pg_loss:0.5 - kl:00000.12"
    assert len(line) == 40
    assert values(read("\n".join([*steps, line, "e3", ""])))[-1] == (4, {"actor/pg_loss": 0.5, "kl": 120})


@pytest.mark.parametrize("prefix", ["", PREFIX])
@pytest.mark.parametrize(
    ("below", "num_missed"),
    [
        ("- Answer:42", 0),
        ("- score:0.5", 0),
        ("- score:0.5\n- Answer:42\n", 0),
        ("  - nested:1", 0),
        ("- critic/score/mean:7", 0),  # the line has it
        ("* Answer:42", 0),
        ("- actor/lr:7\n- Answer:42", 1),
        ("- my/key:7", 1),
        ("- loss:7 - kl:3", 1),
    ],
)
def test_bullets_behind_a_whole_line_are_not_its_items(below: str, num_missed: int, prefix: str) -> None:
    """Answers of the model are printed between steps; what may be an item is counted."""
    below = below.replace("\n", f"\n{prefix}")
    log = read(f"{prefix}step:2 - actor/pg_loss:0.5 - critic/score/mean:0.12\n{prefix}{below}\n")
    assert values(log) == [(2, {"actor/pg_loss": 0.5, "critic/score/mean": 0.12})]
    assert log.files[0].num_missed_lines == num_missed


@pytest.mark.parametrize("end", ["- critic", "-"])
@pytest.mark.parametrize("below", ["reward:0.9", "127.0.0.1:8000", "loss:42"])
def test_a_line_that_misses_its_end_takes_nothing_foreign(end: str, below: str) -> None:
    """Neither a key that is new without a slash, nor one without a letter."""
    log = read(f"step:2 - actor/pg_loss:0.5 {end}\n{below}\nstep:3 - actor/pg_loss:0.25\n")
    assert values(log) == [(2, {"actor/pg_loss": 0.5}), (3, {"actor/pg_loss": 0.25})]
    assert log.files[0].num_missed_lines == 1


def test_a_torn_key_that_is_known_is_whole_again() -> None:
    """No width is needed where the table of keys has it."""
    log = read("step:2 - actor/pg_loss:0.5 - critic/score/me\nan:0.75\n")
    assert values(log) == [(2, {"actor/pg_loss": 0.5, "critic/score/mean": 0.75})]


@pytest.mark.parametrize("prefix", ["", PREFIX])
@pytest.mark.parametrize("value", ["45.25", "45"])
@pytest.mark.parametrize("num_before", [0, 8])
def test_a_key_that_is_broken_before_its_step_is_whole_again(num_before: int, value: str, prefix: str) -> None:
    """`timing_s/` above and `step:45` below is no step 45; nor is a key that was never seen and counts the steps."""
    line = "step:{} - actor/pg_loss:0.5 - timing_s/{}step:{} - perf/throughput:12.5\n"
    text = "".join(prefix + line.format(step, "", value) for step in range(1, num_before + 1))
    step = num_before + 1
    expected = {"actor/pg_loss": 0.5, "timing_s/step": float(value), "perf/throughput": 12.5}
    text += prefix + line.format(step, "\n" + prefix, value) + prefix + line.format(step + 1, "", value)
    for pieces in ([text.encode()], text.encode().splitlines(keepends=True)):
        log = read_chunks(pieces, dialects=[Verl])
        assert values(log) == [(at, expected) for at in range(1, step + 2)]
        assert log.files[0].num_missed_lines == 0
    counting = f"{prefix}step:3 - a/b:1 - own/global_\n{prefix}step:3 - x/y:1\n{prefix}step:4 - a/b:1\n"
    log = read(counting)
    assert values(log) == [(3, {"a/b": 1}), (4, {"a/b": 1})]
    assert log.files[0].num_missed_lines == 1


def test_a_torn_line_above_a_step_takes_nothing_of_it() -> None:
    """A key that `step` completes to none is torn, and the step below is whole."""
    log = read("step:3 - a/b:1 - critic/sc\nstep:4 - a/b:2 - x/y:1\n" * 5)
    assert [row for row in values(log) if row[0] == 4] == [(4, {"a/b": 2, "x/y": 1})] * 5
    assert log.files[0].num_missed_lines == 5


@pytest.mark.parametrize("prefix", ["", PREFIX])
@pytest.mark.parametrize(
    ("below", "found", "num_missed"),
    [
        ("- note:by hand - c/d:2", {"a/b": 0.5, "actor/lr": 1}, 1),
        ("2 - note:by hand - c/d:2", {"a/b": 0.5}, 1),
        ("2 - c/d:2 - cri", {"a/b": 0.5}, 1),
        (f"- c/d:2 - {'x' * 70_000}:3", {"a/b": 0.5, "actor/lr": 1}, 1),
        (f"2 - c/d:2 - {'x' * 70_000}:3", {"a/b": 0.5}, 1),
        ("2 - done", {"a/b": 0.5, "actor/lr": 1}, 0),
        ("- note: by hand - so it is", {"a/b": 0.5, "actor/lr": 1}, 0),
    ],
    ids=["dashed", "in a value", "torn", "long and dashed", "long", "words", "a bullet"],
)
def test_a_line_of_items_that_can_t_be_put_together_is_counted(
    below: str, found: dict[str, float], num_missed: int, prefix: str
) -> None:
    """Without the value that it may go on with; also among whole lines, which are read many at once."""
    whole = "".join(f"{prefix}step:{step} - a/b:{step} - actor/lr:1e-06\n" for step in range(1, 9))
    for before in ("", whole):
        text = f"{before}{prefix}step:9 - a/b:0.5 - actor/lr:1\n{prefix}{below}\n{whole}"
        for pieces in ([text.encode()], text.encode().splitlines(keepends=True)):
            log = read_chunks(pieces, dialects=[Verl])
            assert [said for step, said in values(log) if step == 9] == [found]
            assert log.files[0].num_missed_lines == num_missed
