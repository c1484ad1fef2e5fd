"""Widths at which lines of verl were broken: blanks that a terminal stripped, and characters of several bytes."""

from __future__ import annotations

import pytest

from orz_monitor.dialects.verl.dialect import Verl
from orz_monitor.log import Log
from orz_monitor.reading import read_chunks

pytestmark = pytest.mark.unit

PREFIX = "(TaskRunner pid=123) "
KEYS = (
    "global_seqlen/min", "actor/entropy", "my/métrique", "actor/pg_loss", "actor/grad_norm", "perf/mfu/actor",
    "actor/lr", "training/global_step", "critic/score/mean", "val-core/数学/reward/mean@1", "own/key", "timing_s/gen",
)  # fmt: skip


def values(log: Log) -> list[tuple[int | None, dict[str, float]]]:
    return [(row.step, dict(zip(row.keys, row.values, strict=True))) for row in log.rows()]


def read(data: bytes) -> Log:
    log = read_chunks([data], dialects=[Verl])
    in_lines = read_chunks(data.splitlines(keepends=True), dialects=[Verl])
    assert (values(log), log.files[0].num_missed_lines) == (values(in_lines), in_lines.files[0].num_missed_lines)
    return log


def said(step: int) -> dict[str, float]:
    values = {key: float(step) if key.endswith("step") else (step * 7 + at) / 3 for at, key in enumerate(KEYS)}
    return values | {KEYS[-1]: step / 30}


def printed(step: int) -> str:
    return " - ".join([f"step:{step}", *(f"{key}:{value!r}" for key, value in said(step).items())])


@pytest.mark.parametrize("prefixes", [("", ""), (PREFIX, ""), (PREFIX, PREFIX)], ids=["none", "first", "each"])
@pytest.mark.parametrize("is_stripped", [False, True])
@pytest.mark.parametrize("width", range(60, 140, 3))
def test_lines_are_whole_again(width: int, is_stripped: bool, prefixes: tuple[str, str]) -> None:
    """Also where a break cost the blank beside a dash, and where characters are several bytes."""
    pieces: list[str] = []
    for step in range(1, 9):
        line = printed(step) if prefixes[1] else prefixes[0] + printed(step)
        rows = [line[at : at + width] for at in range(0, len(line), width)]
        pieces += [prefixes[1] + (row.rstrip() if is_stripped else row) for row in rows]
    log = read("".join(f"{piece}\n" for piece in pieces).encode())
    assert values(log) == [(step, said(step)) for step in range(1, 9)]
    assert log.files[0].num_missed_lines == 0


@pytest.mark.parametrize("width", range(60, 140, 3))
def test_lines_that_were_broken_after_so_many_bytes_say_nothing_wrong(width: int) -> None:
    """A piece may end within a character; each value is right, or is not there and its line is counted."""
    lines = [printed(step).encode() for step in range(1, 9)]
    log = read(b"".join(line[at : at + width] + b"\n" for line in lines for at in range(0, len(line), width)))
    found = dict(values(log))
    assert all(row.items() <= said(step or 0).items() for step, row in found.items())
    assert log.files[0].num_missed_lines >= sum(found.get(step) != said(step) for step in range(1, 9))


def test_lines_are_as_long_as_their_characters() -> None:
    """The first has fewer than the last, and more bytes: whether the last goes on is not known, read in any way."""
    wide, narrow = "step:1 - {}/a:0.5 - kl:2\n".format("数" * 40), "step:2 - {}/a:0.5 - kl:2\n312\n".format("x" * 50)
    log = read((wide * 30 + narrow).encode())
    assert values(log) == [*[(1, {"数" * 40 + "/a": 0.5, "kl": 2})] * 30, (2, {"x" * 50 + "/a": 0.5})]
    assert log.files[0].num_missed_lines == 1
