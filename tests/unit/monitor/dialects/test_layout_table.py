"""Lines of one layout that are read as a table: each value where it stands, and lines that differ left out."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from orz_monitor.dialects import layout
from orz_monitor.dialects.layout_table import FEWEST_LINES, LayoutTable
from orz_monitor.dialects.verl import Verl
from orz_monitor.numbers import integers_at
from orz_monitor.reading import read_chunks

pytestmark = pytest.mark.unit

HEADS = [b"a:b:", b"lr(1e-4):np.float64(", b"kl:"]
TABLE = LayoutTable(HEADS, [False, True, False], b":", b" - ")


def read(lines: list[bytes], table: LayoutTable = TABLE) -> tuple[list[int], list[list[float]]] | None:
    """Read the items of lines, between which stand others."""
    texts = [b" - " + items for items in lines]
    text = b"x:1\n" + b"\nx: - :\n".join(texts) + b"\n"
    lengths = np.array([len(one) for one in texts])
    starts = 4 + np.cumsum(lengths + 8) - lengths - 8
    marks = np.array([at for at, byte in enumerate(text) if byte == ord(":")])
    found = table.read(text, starts, starts + lengths, marks)
    return (found[0].tolist(), found[1].tolist()) if found is not None else None


def line(index: int) -> bytes:
    return b"a:b:%d - lr(1e-4):np.float64(-%d.25) - kl:%de-06" % (index, index, index)


def test_each_value_is_read_where_it_stands() -> None:
    """Values that are shorter and longer, and a key that holds the separator."""
    numbers = range(99, 99 + FEWEST_LINES)
    values = [[at, -at - 0.25, float(f"{at}e-06")] for at in numbers]
    assert read([line(at) for at in numbers]) == (list(range(FEWEST_LINES)), values)


@pytest.mark.parametrize(
    "odd",
    [
        b"",
        b"a:b:",
        b"a:b:1 - lr(1e-4):np.float64(2)",
        b"a:b:1 - lr(1e-4):np.float64(2) - kl:3 - kl:3",
        b"a:c:1 - lr(1e-4):np.float64(2) - kl:3",
        b"a:b:1 - lr(1e-3):np.float64(2) - kl:3",
        b"a:b:1 - lr(1e-4):np.float32(2) - kl:3",
        b"a:b:1 - lr(1e-4):2 - kl:3",
        b"a:b:1 - lr(1e-4):np.float64(2 - kl:3",
        b"a:b:1 - lr(1e-4):np.float64() - kl:3",
        b"a:b:1 - lr(1e-4):np.float64(2) - kl:",
        b"a:b:1 - lr(1e-4):np.float64(2) - kl:np.float64(",
        b"a:b: - lr(1e-4):np.float64(2) - kl:3",
        b"a:b:1 - lr(1e-4):np.float64(2) - xkl:3",
        b"a:b:1 - lr(1e-4):np.float64(2) -kl:3",
        b"a:b:1 - lr(1e-4):np.float64(2)- kl:3",
        b"x - a:b:1 - lr(1e-4):np.float64(2) - kl:3",
        b"a:b:1 - lr(1e-4):np.float64(2) - kl:" + b"3" * 61,
        b"b:1 - lr(1e-4):np.float64(2) - kl:3:",
        b"::::",
        b"a:b:1 - lr(1e-4):np.float64(2)) - kl:3",
        b"a:b:1 - lr(1e-4):np.float64((2) - kl:3",
        b"a:b:None - lr(1e-4):np.float64(2) - kl:3",
        b"a:b:1 - lr(1e-4):np.float64(2) - kl:3 ",
        b"a:b:1 - lr(1e-4):np.float64(2) - kl:3\r",
        b"a:b:1 - lr(1e-4):np.float64(2) - kl:3\x1b[0m",
        b"a:b:1 - lr(1e-4):np.float64(2) - kl:3 [repeated 2x across cluster]",
        b"a:b:1 - kl:3 - lr(1e-4):np.float64(2)",
        b"a:\0:1 - lr(1e-4):np.float64(2) - kl:3",
    ],
)
@pytest.mark.parametrize("at", [0, 7, FEWEST_LINES])
def test_a_line_that_differs_is_left_out(odd: bytes, at: int) -> None:
    """Wherever it stands, and the others are read as if it were not there."""
    lines = [line(index) for index in range(FEWEST_LINES)]
    alone, among = read(lines), read([*lines[:at], odd, *lines[at:]])
    assert alone is not None
    assert among == ([*range(at), *range(at + 1, FEWEST_LINES + 1)], alone[1])


@pytest.mark.parametrize("odd", [b"1,2", b"1_000", b"1 2", b"0x1", b"1\r2", b"1],[1", b"1\xff1", b"nf"])
@pytest.mark.parametrize("at", [0, 1, 2])
def test_nothing_is_read_where_a_value_is_no_number(odd: bytes, at: int) -> None:
    """No value is moved to the place of another."""
    values = [b"1", b"2", b"3"]
    values[at] = odd
    text = b"a:b:%b - lr(1e-4):np.float64(%b) - kl:%b" % tuple(values)
    assert read([*(line(index) for index in range(FEWEST_LINES)), text]) is None


def test_two_lines_of_which_one_lacks_what_the_other_has_too_much_of_are_left_out() -> None:
    """Together they have as many separators as two sound ones."""
    lines = [b"a:b:1 - lr(1e-4):np.float64(2)", b"a:b:1 - lr(1e-4):np.float64(2) - kl:3 - kl:4"]
    found = read([*lines, *(line(index) for index in range(FEWEST_LINES))])
    assert found is not None
    assert found[0] == list(range(2, FEWEST_LINES + 2))


def test_few_lines_are_no_table() -> None:
    """They are read one by one."""
    assert read([line(index) for index in range(FEWEST_LINES - 1)]) is None


def test_a_long_head_is_not_looked_for_in_short_lines() -> None:
    """A million of bytes for each of many lines would be more memory than there is."""
    key = b"k" * 1_000_000
    table = LayoutTable([key + b":"], [False], b":", b" - ")
    assert read([key + b":1", *[b"k:1"] * 100_000], table) is None


def text_of(lines: list[str]) -> bytes:
    return "".join(f"(TaskRunner pid=12) step:{step} - {items}\n" for step, items in enumerate(lines)).encode()


def test_layouts_that_take_turns_are_each_a_table() -> None:
    """A validation every tenth step, and a value that has numpy's wrapper now and then."""
    lines = [f"actor/pg_loss:{at}.5 - actor/lr:{at}e-06" for at in range(3000)]
    lines[::10] = [f"{items} - val-core/gsm8k/acc/mean@1:0.25" for items in lines[::10]]
    lines[1::10] = [re.sub(r"(\d+\.5)", r"np.float64(\1)", items) for items in lines[1::10]]
    data = text_of(lines)
    log = read_chunks([data[: len(data) // 2], data[len(data) // 2 :]], dialects=[Verl])
    assert len({rows.keys for rows in log.bulk}) == 2
    assert len(log.bulk) == 3
    assert sum(map(len, log.bulk)) > 1400, "how values are printed is learnt from the first half"
    rows = log.rows()
    assert [row.line for row in rows] == list(range(1, 3001))
    assert [row.step for row in rows] == list(range(3000))
    assert [row.values.tolist() for row in rows] == [
        [at + 0.5, float(f"{at}e-06"), *([0.25] if at % 10 == 0 else [])] for at in range(3000)
    ]


def test_lines_whose_values_are_not_known_well_are_in_no_table() -> None:
    """How values are printed is learnt from 64 of them, so lines of a layout that was seen less often count, too."""
    log = read_chunks([text_of(["kl:0.5"] * 30), text_of(["kl:0.125"] * 100)], dialects=[Verl])
    assert len(log.rows()) == 130
    precision = log.precisions["verl", "kl"]
    assert (precision.num_samples, precision.decimals) == (64, (1, 3))


def test_a_value_with_a_separator_belongs_to_a_key_with_one() -> None:
    """Whatever the layout of the line before; the last separator ends the key."""
    lines = ["time:5 - actor/lr:1e-06", "time:12:5 - actor/lr:1e-06"]
    first, second = read_chunks([text_of(lines)], dialects=[Verl]).rows()
    assert (first.keys, second.keys) == (("time", "actor/lr"), ("time:12", "actor/lr"))
    assert first.values.tolist() == second.values.tolist() == [5.0, 1e-6]


def looks_at(sound: list[str], lines: list[str], monkeypatch: pytest.MonkeyPatch) -> tuple[int, list[float]]:
    """Return how often lines are looked at behind others, from which layouts are known, and the first values of all."""
    looks = 0
    read_table = LayoutTable.read

    def counted(self: LayoutTable, *arguments: Any) -> object:
        nonlocal looks
        looks += 1
        return read_table(self, *arguments)

    monkeypatch.setattr(LayoutTable, "read", counted)
    log = read_chunks([text_of(sound), text_of(lines)], dialects=[Verl])
    return looks, [row.values[0] for row in log.rows()]


def test_a_batch_of_many_layouts_is_looked_at_a_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look reads all lines that are left, so that their number may not grow with that of the layouts."""
    lines = [f"key{at % 50}:{at} - lr:0.5" for at in range(50 * 70)]
    assert looks_at(lines, lines, monkeypatch) == (layout.MOST_TRIES, [*range(3500), *range(3500)])


def test_lines_with_a_value_that_is_no_number_are_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same layout would not fit them a second time."""
    sound = [f"tokens:{at} - lr:0.5" for at in range(1, 100)]
    lines = [f"tokens:{at},{at:03} - lr:0.5" for at in range(1, 100)]
    assert looks_at(sound, lines, monkeypatch) == (1, [*range(1, 100), *(at * 1001.0 for at in range(1, 100))])


@pytest.mark.parametrize("end", [b"", b"\r", b" ", b"\t ", b"\x1b[0m", b" [repeated 2x across cluster]"])
def test_what_stands_behind_the_metrics_is_none_of_a_value(end: bytes) -> None:
    """Lines of Windows, colours, and what Ray adds to a line that several processes have printed."""
    sound = text_of(["kl:0.5 - lr:np.float64(1e-06)"] * 70)
    data = text_of(["kl:0.25 - lr:np.float64(1e-06)"] * 140).splitlines()
    data[::2] = [one + end for one in data[::2]]
    log = read_chunks([sound, b"\n".join(data) + b"\n"], dialects=[Verl])
    assert sum(map(len, log.bulk)) == (70 if end else 140)
    assert [row.values.tolist() for row in log.rows()] == [[0.5, 1e-6]] * 70 + [[0.25, 1e-6]] * 140


@pytest.mark.parametrize("step", [b"", b"-1", b"x", b"1" * 16, b"1" * 30, b"1.5", b"1_0"])
def test_a_line_without_a_step_is_none_among_those_that_have_one(step: bytes) -> None:
    """More than 15 digits are no step."""
    sound = text_of(["kl:0.5"] * 70)
    odd = b"(TaskRunner pid=12) step:" + step + b" - kl:0.25\n"
    log = read_chunks([sound, odd + sound + odd], dialects=[Verl])
    assert sum(map(len, log.bulk)) == 70
    assert [row.step for row in log.rows()] == [*range(70)] * 2


def test_digits_are_read_up_to_the_first_byte_that_is_none() -> None:
    """At the end of the text, too, and of sixteen digits one can tell that they are too many."""
    text = b"123/ 45:007 9999999999999999 8"
    values, counts = integers_at(text, np.array([0, 1, 3, 5, 8, 12, 13, len(text) - 1, len(text) + 5]))
    assert values.tolist() == [123, 23, 0, 45, 7, 9_999_999_999_999_999, 999_999_999_999_999, 8, 0]
    assert counts.tolist() == [3, 2, 0, 2, 3, 16, 15, 1, 0]
