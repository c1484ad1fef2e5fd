"""A run of verl dies within a line, and the next one writes to the same file: no value goes to the wrong step."""

from __future__ import annotations

import pytest

from orz_monitor.dialects.verl.dialect import Verl
from orz_monitor.log import Log
from orz_monitor.reading import read_chunks

pytestmark = pytest.mark.unit

FIRST, SECOND = "(TaskRunner pid=123) ", "(TaskRunner pid=77) "
KEYS = ("actor/pg_loss", "critic/score/mean", "actor/entropy", "training/global_step", "timing_s/step")


def said(step: int, attempt: int) -> dict[str, float]:
    return {key: float(step) if key.endswith("global_step") else step + attempt / 8 for key in KEYS}


def printed(step: int, attempt: int) -> str:
    items = (f"{key}:{int(value) if value == step else value}" for key, value in said(step, attempt).items())
    return " - ".join([f"step:{step}", *items])


def values(log: Log) -> list[tuple[int | None, dict[str, float]]]:
    return [(row.step, dict(zip(row.keys, row.values, strict=True))) for row in log.rows()]


def read(text: str) -> Log:
    log = read_chunks([text.encode()], dialects=[Verl])
    in_lines = read_chunks(text.encode().splitlines(keepends=True), dialects=[Verl])
    assert (values(log), log.files[0].num_missed_lines) == (values(in_lines), in_lines.files[0].num_missed_lines)
    return log


@pytest.mark.parametrize("prefixes", [(FIRST, SECOND), ("", ""), ("", "[rank0]: ")])
@pytest.mark.parametrize("again", [4, 6, 7])
@pytest.mark.parametrize("cut", range(len("step:6 - "), len(printed(6, 0))))
def test_a_line_that_another_step_cuts(cut: int, again: int, prefixes: tuple[str, str]) -> None:
    """Each value is that of its step, wherever the first line ends, also before its first key; that line is counted."""
    first, second = prefixes
    whole = [first + printed(step, 0) + "\n" for step in range(1, 6)]
    later = [second + printed(step, 1) + "\n" for step in range(again, again + 3)]
    log = read("".join([*whole, first + printed(6, 0)[:cut], *later]))
    found = values(log)
    torn = [row for row in found[5:-3] if row[1]]
    assert [row for row in found if row not in torn] == [(step, said(step, 0)) for step in range(1, 6)] + [
        (step, said(step, 1)) for step in range(again, again + 3)
    ]
    assert all(step == 6 and row.items() <= said(6, 0).items() for step, row in torn)
    assert log.files[0].num_missed_lines == 1
    assert {key for row in log.rows() for key in row.keys} == set(KEYS)


@pytest.mark.parametrize("second", ["", SECOND])
@pytest.mark.parametrize("cut", range(1, 40))
def test_a_rest_that_another_step_cuts(cut: int, second: str) -> None:
    """The last piece of a wrapped line is cut: what it leaves open is not shown, and the next step is whole."""
    line = f"{printed(6, 0)[: 40 + cut]}"
    prefix = FIRST if second else ""
    log = read(f"{prefix}{line[:40]}\n{prefix}{line[40:]}{second}{printed(7, 1)}\n{second}{printed(8, 1)}\n")
    found = values(log)
    assert found[-2:] == [(7, said(7, 1)), (8, said(8, 1))]
    assert all(step == 6 and row.items() <= said(6, 0).items() for step, row in found[:-2])
    assert log.files[0].num_missed_lines == 1


def test_a_key_that_comes_again_is_not_read_twice() -> None:
    """From there on nobody knows which step the values are of."""
    log = read("step:1 - a/b:1 - c/d:2\nstep:2 - a/b:1 - c/d:2 - a/b:3 - e/f:4\n")
    assert values(log) == [(1, {"a/b": 1, "c/d": 2}), (2, {"a/b": 1, "c/d": 2})]
    assert log.files[0].num_missed_lines == 1


def test_keys_that_end_in_step_are_keys() -> None:
    """A whole line with any of them is read as it is."""
    text = "".join(f"step:{at} - global_step:{at} - a/my_step:{at} - timing_s/step:{at}\n" for at in range(1, 9))
    log = read(text)
    assert values(log) == [(at, {"global_step": at, "a/my_step": at, "timing_s/step": at}) for at in range(1, 9)]
    assert log.files[0].num_missed_lines == 0


def test_a_first_key_that_ends_in_step_is_no_later_step() -> None:
    """The key behind it begins alike, as a step does that cut the first key; but no run goes on with step 45."""
    log = read("step:3 - timing_s/step:45 - timing_s/gen:0.5\nstep:4 - timing_s/step:46 - timing_s/gen:0.25\n")
    assert values(log) == [
        (3, {"timing_s/step": 45, "timing_s/gen": 0.5}),
        (4, {"timing_s/step": 46, "timing_s/gen": 0.25}),
    ]
    assert log.files[0].num_missed_lines == 0
