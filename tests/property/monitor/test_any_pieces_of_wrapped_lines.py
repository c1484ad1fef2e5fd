"""Wrapped lines of verl in pieces of any size are what they are at once, and what is shown meanwhile is right."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from orz_monitor.dialects.verl.dialect import Verl
from orz_monitor.log import Event, Log, Tick
from orz_monitor.reading import Reader, read_chunks

pytestmark = pytest.mark.property

PREFIXES = ("", "(TaskRunner pid=3) ", "\x1b[36m(TaskRunner pid=3)\x1b[0m ", "\x1b[33m(TaskRunner pid=3)\x1b[0m ")
BETWEEN = (
    "Training Progress:  34%|███▍ | 2/210 [10:00<20:00, 3.0s/it]",
    "\x1b[36m(WorkerDict pid=9)\x1b[0m loading",
    "(WorkerDict pid=9) loss:3",
    "- Answer:42",
    "- score:0.5",
    "  - nested:1",
    "- my/key:3",
    "0.5",
    "312",
    "e-06",
    "",
    "so the sum is 3",
    "5 - done",
    "7 - note:hello - x/y:1",
    "- note:hello - c/d:2",
    "timing_s/",
    "('Initial validation metrics: {'a/b': 0.25,",
    "\"  'c/d': 0.5}\")",
    "step:",
)


def values_of(rng: random.Random, step: int, num_keys: int) -> dict[str, float]:
    """Return the values of a step: all lengths, an exponent now and then."""
    keys = ["actor/pg_loss", "actor/lr", "my/key", "score", "critic/score/mean", "timing_s/step", "odd", "x/y"]
    return {key: rng.choice([rng.random() * step, -1e-6, step, 12.5, float("nan")]) for key in keys[:num_keys]}


def step_line(step: int, values: dict[str, float], *, is_numpy: bool = False) -> str:
    items = [f"{key}:np.float64({value!r})" if is_numpy else f"{key}:{value!r}" for key, value in values.items()]
    return " - ".join([f"step:{step}", *items])


def wrapped(rng: random.Random, line: str, width: int) -> list[str]:
    """Break a line at a width, between words, anywhere, or not at all."""
    match rng.randrange(4):
        case 0:
            return [line[at : at + width] for at in range(0, len(line), width)]
        case 1:
            cuts = [0, *(at for at in range(len(line)) if line.startswith(" - ", at) and rng.random() < 0.3), len(line)]
            return [line[start:stop].strip() for start, stop in pairwise(cuts)]
        case 2:
            cut = rng.randrange(1, len(line))
            return [line[:cut], line[cut:]]
    return [line]


def any_log(seed: int, num_steps: int) -> bytes:
    """Write steps, each broken in its own way, with anything between them and between their pieces."""
    rng = random.Random(seed)  # noqa: S311 - test data
    num_keys, prefix, lines = rng.randrange(1, 9), rng.choice(PREFIXES), list[str]()
    width = rng.choice([24, 40, 48, 61])
    for step in range(1, num_steps + 1):
        line = step_line(step, values_of(rng, step, num_keys), is_numpy=rng.random() < 0.2)
        for piece in wrapped(rng, line, width):
            bar = BETWEEN[0] if rng.random() < 0.05 else ""  # glued behind it
            lines.append(rng.choice([prefix, prefix, "", rng.choice(PREFIXES)]) + piece + bar)
            lines += [rng.choice(["", prefix]) + rng.choice(BETWEEN)] * (rng.random() < 0.1)
        lines += [rng.choice(["", prefix]) + rng.choice(BETWEEN) for _ in range(rng.choice([0, 0, 1, 2]))]
    return ("\n".join(lines) + rng.choice(["\n", ""])).encode()


def told(log: Log) -> tuple[object, ...]:
    """Return all that a log says."""
    rows = [(row.line, row.step, row.axis, row.keys, str(list(row.values))) for row in log.rows()]
    others = sorted(
        repr((entry.line, entry.offset, entry.event if isinstance(entry, Event) else ""))
        for entry in log.entries
        if isinstance(entry, Event)
    )
    ticks = {entry.line for entry in log.entries if isinstance(entry, Tick)}
    return rows, others, bool(ticks), log.texts, +log.votes, log.files[0].num_missed_lines, log.files[0].num_lines


def pieces(data: bytes, cuts: list[float]) -> Iterator[bytes]:
    for start, stop in pairwise(sorted({0, len(data), *(int(cut * len(data)) for cut in cuts)})):
        yield data[start:stop]


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 30), st.lists(st.floats(0, 1), max_size=40))
def test_pieces_of_any_size_say_what_the_whole_says(seed: int, num_steps: int, cuts: list[float]) -> None:
    """The same rows, values and counts, however the lines are broken, and in pieces of a byte and of a line, too."""
    data = any_log(seed, num_steps)
    whole = told(read_chunks([data], dialects=[Verl]))
    assert told(read_chunks(pieces(data, cuts), dialects=[Verl])) == whole
    assert told(read_chunks(data.splitlines(keepends=True), dialects=[Verl])) == whole
    assert told(read_chunks([data[at : at + 1] for at in range(len(data))], dialects=[Verl])) == whole


def wrong_in(log: Log, steps: dict[int, dict[str, float]]) -> list[object]:
    """Return the steps of which a value is shown that is not theirs."""
    return [
        row.step
        for row in log.rows()
        if not {key: str(value) for key, value in zip(row.keys, row.values, strict=True)}.items()
        <= {key: str(float(value)) for key, value in steps[row.step or 0].items()}.items()
    ]


def num_incomplete(log: Log, steps: dict[int, dict[str, float]]) -> int:
    """Return how many steps are not shown with all of their values."""
    return len(steps) - sum(set(row.keys) == set(steps[row.step or 0]) for row in log.rows())


@settings(max_examples=150, deadline=None)
@example(seed=0, num_steps=2, width=133, prefix="", is_stripped=False)
@given(
    st.integers(0, 2**32),
    st.integers(1, 20),
    st.sampled_from([40, 64, 90, 133, 10_000]),
    st.sampled_from(PREFIXES),
    st.booleans(),
)
def test_no_wrong_value_is_ever_shown(seed: int, num_steps: int, width: int, prefix: str, is_stripped: bool) -> None:
    """In a log that a terminal has broken, after each of its lines: every value is that of its step.

    In the end each step that lacks a value is counted as missed, and no other one is. Two lines that just fill the
    width are taken for narrower ones, until the rest of a longer one comes. A new key without a slash behind a dash is
    what the model wrote, `- Answer:42`, where a blank was lost before it. A number that another program prints alone
    below a line that just fills the width is taken for its rest, if it has no point and none stood there before:
    nothing tells the two apart.
    """
    rng = random.Random(seed)  # noqa: S311 - test data
    num_keys = rng.randrange(1, 9)
    steps = {step: values_of(rng, step, num_keys) for step in range(1, num_steps + 1)}
    reader = Reader(dialects=[Verl])
    lines = [step_line(step, values) for step, values in steps.items()]
    assume(sum(len(line) == width for line in lines) < 2)
    assume(not is_stripped or not any(line[width:].startswith(("- odd:", "- score:")) for line in lines))
    between = rng.choice([BETWEEN[0], "so the sum is 3", "Saving", ""])
    for line in lines:
        for at in range(0, len(line), width):
            piece = line[at : at + width]
            reader.feed(f"{prefix}{piece.rstrip() if is_stripped else piece}\n".encode())
            assert wrong_in(reader.log, steps) == []
        if rng.random() < 0.5:
            reader.feed((prefix + between + "\n").encode())
    log = reader.close()
    assert wrong_in(log, steps) == []
    assert log.files[0].num_missed_lines == num_incomplete(log, steps)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 20), st.sampled_from([60, 64, 90, 133]), st.sampled_from(PREFIXES))
def test_numbers_of_others_change_no_step(seed: int, num_steps: int, width: int, prefix: str) -> None:
    """In a wrapped log where a number with a point stands below steps: each value is right, or its line is counted."""
    rng = random.Random(seed)  # noqa: S311 - test data
    steps = {step: values_of(rng, step, 8) for step in range(1, num_steps + 1)}
    rows: list[str] = []
    for step, said in steps.items():
        line = step_line(step, said)
        rows += [prefix + line[at : at + width] for at in range(0, len(line), width)]
        rows += [rng.choice([prefix, ""]) + rng.choice(["0.5", "12.25"])] * (rng.random() < 0.7)
    log = read_chunks(["\n".join([*rows, ""]).encode()], dialects=[Verl])
    assert wrong_in(log, steps) == []
    assert log.files[0].num_missed_lines == num_incomplete(log, steps)
