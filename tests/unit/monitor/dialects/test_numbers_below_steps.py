"""A number alone below a metric line of verl: the rest of its last value, or what another program printed."""

from __future__ import annotations

import pytest

from orz_monitor.dialects.verl.dialect import Verl
from orz_monitor.log import Log
from orz_monitor.reading import read_chunks

pytestmark = pytest.mark.unit

PREFIX = "(TaskRunner pid=123) "
WIDTH = 80


def values(log: Log) -> list[tuple[int | None, dict[str, float]]]:
    return [(row.step, dict(zip(row.keys, row.values, strict=True))) for row in log.rows()]


def read(text: str) -> Log:
    log = read_chunks([text.encode()], dialects=[Verl])
    in_lines = read_chunks(text.encode().splitlines(keepends=True), dialects=[Verl])
    assert (values(log), log.files[0].num_missed_lines) == (values(in_lines), in_lines.files[0].num_missed_lines)
    return log


def said(step: int, last: float) -> dict[str, float]:
    return {"actor/pg_loss": step / 7, "critic/score/mean": 0.5, "timing_s/step": last}


def printed(step: int, last: str, length: int) -> str:
    """Write a step as long as it should be, with an item whose value is a word and whose key is as long as needed."""
    line = f"step:{step} - actor/pg_loss:{step / 7!r} - /:None - critic/score/mean:0.5 - timing_s/step:{last}"
    return line.replace(" - /:", f" - {'x' * (length - len(line))}/:")


def broken(line: str, prefix: str = "") -> str:
    return "".join(f"{prefix}{line[at : at + WIDTH]}\n" for at in range(0, len(line), WIDTH))


@pytest.mark.parametrize("prefix", ["", PREFIX])
@pytest.mark.parametrize("number", ["0.5", "312", "7e-05"])
def test_a_number_below_a_piece_that_is_shorter_than_the_width_is_none_of_the_step(number: str, prefix: str) -> None:
    """A terminal breaks no value before its width."""
    lines = [printed(step, str(step), 2 * WIDTH + 10 + step) for step in range(1, 9)]
    log = read("".join(broken(line, prefix) + f"{number}\n" for line in lines))
    assert values(log) == [(step, said(step, step)) for step in range(1, 9)]
    assert log.files[0].num_missed_lines == 0


@pytest.mark.parametrize("prefix", ["", PREFIX])
@pytest.mark.parametrize(
    ("below", "missed"),
    [("", []), ("312\n", [1, 2, 3]), ("Saving\n", [])],
    ids=["nothing", "numbers", "words"],
)
def test_a_number_below_lines_of_three_lengths_is_none_of_them(below: str, missed: list[int], prefix: str) -> None:
    """A terminal has one width: from the fourth line on they have their last values; the first three are counted."""
    lengths = [150, 130, 140, 160, 155, 150, 130]
    lines = [f"{prefix}{printed(step, str(step), length)}\n" for step, length in enumerate(lengths, start=1)]
    log = read(below.join([*lines, ""]))
    expected = {step: said(step, step) for step in range(1, 8)}
    for step in missed:
        del expected[step]["timing_s/step"]
    assert values(log) == list(expected.items())
    assert log.files[0].num_missed_lines == len(missed)


def test_numbers_below_lines_of_three_lengths_tell_nothing_where_other_lines_are_broken() -> None:
    """The last line is broken in its last value, 4.5125, as the first one is elsewhere."""
    lines = [printed(step, "4.5125", length) for step, length in enumerate([124, 82, 99, 112, 123], start=1)]
    broken_late, *whole, last = lines
    text = "".join(f"{line.removesuffix('.5125')}\n7\n" for line in whole)
    log = read(f"{broken_late[:100]}\n{broken_late[100:]}\n{text}{last[:-2]}\n25\n")
    assert all(row.items() <= said(step or 0, 4.5125).items() for step, row in values(log))
    assert log.files[0].num_missed_lines == 5


@pytest.mark.parametrize("prefix", ["", PREFIX])
def test_a_number_below_a_line_that_is_shorter_than_a_whole_one_is_none_of_it(prefix: str) -> None:
    """The last value of the longest one may go on: it is missed, and the line is counted."""
    lines = [f"{prefix}{printed(step, str(step), length)}\n" for step, length in enumerate([150, 130, 151], start=1)]
    log = read(f"{lines[0]}{lines[1]}312\n{lines[2]}312\n")
    assert values(log)[:2] == [(1, said(1, 1)), (2, said(2, 2))]
    assert "timing_s/step" not in values(log)[2][1]
    assert log.files[0].num_missed_lines == 1


@pytest.mark.parametrize(
    ("line", "whole"),
    [
        ("step:3 - a/b:0.500 - c/d:1.250 - e/f:12.000 - g/h:0.125", True),
        ("step:3 - a/b:0.500 - c/d:1.250 - e/f:12.000 - g/h:0.12", False),
        ("step:3 - a/b:0.500 - c/d:1.25 - e/f:12.000 - g/h:0.125", False),
        ("step:3 - a/b:0.5 - g/h:-0.0123456789012345", True),
        ("step:3 - a/b:0.5 - g/h:-0.01234567890123", False),
        ("step:3 - a/b:0.5 - g/h:np.float64(0.12)", True),
    ],
    ids=["all decimals", "one is missing", "no format", "all digits", "not all digits", "closed"],
)
def test_a_value_that_has_all_its_digits_takes_no_more(line: str, whole: bool) -> None:
    """Of what may go on nothing is shown, and the line is counted."""
    log = read(f"{line}\n312\nstep:4 - a/b:1\n")
    assert ("g/h" in values(log)[0][1], log.files[0].num_missed_lines) == (whole, 0 if whole else 1)
    assert values(log)[0][1].get("g/h", 0.125) in {0.125, -0.0123456789012345, 0.12}


@pytest.mark.parametrize(
    ("before", "number", "last"),
    [
        ("", "312", 12.5312),
        ("", ".75", None),
        ("7\n", "312", None),
    ],
    ids=["a rest", "no number", "others print numbers, too"],
)
def test_a_number_below_a_line_that_just_fills_the_width(before: str, number: str, last: float | None) -> None:
    """It is the rest of the value, unless numbers were printed alone before; then nobody knows."""
    text = broken(printed(1, "1.5", 2 * WIDTH + 9)) + before + broken(printed(2, "12.5", 2 * WIDTH))
    log = read(f"{text}{number}\nstep:3 - a/b:1\n")
    expected = said(2, last or 12.5)
    if before:
        del expected["timing_s/step"]
    assert values(log) == [(1, said(1, 1.5)), (2, expected), (3, {"a/b": 1})]
    assert log.files[0].num_missed_lines == bool(before)


def test_a_number_with_its_own_point_below_a_line_that_just_fills_the_width() -> None:
    """`4` and `0.5` are hardly 40.5: the value is missed, and the line counted."""
    log = read(broken(printed(1, "1.5", 2 * WIDTH + 9)) + broken(printed(2, "4", 2 * WIDTH)) + "0.5\n")
    assert values(log)[1] == (2, {key: value for key, value in said(2, 4).items() if key != "timing_s/step"})
    assert log.files[0].num_missed_lines == 1
