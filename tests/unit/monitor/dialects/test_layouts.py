"""Lines of a layout that is known well are read as a table, whatever stands among them."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from orz_monitor.dialects import layout
from orz_monitor.dialects.verl.dialect import Verl
from orz_monitor.numbers import integers_at
from orz_monitor.reading import read_chunks
from orz_monitor.transport.template import Template

pytestmark = pytest.mark.unit


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
    read_template = Template.read

    def counted(self: Template, *arguments: Any) -> object:
        nonlocal looks
        looks += 1
        return read_template(self, *arguments)

    monkeypatch.setattr(Template, "read", counted)
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
    assert sum(map(len, log.bulk)) == (69 if end else 139)  # the last line of a batch waits for the next
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


def test_a_line_of_thousands_of_items_is_read_to_its_end() -> None:
    """Also in many lines; keys beyond those that a log keeps are counted."""
    items = " - ".join(f"key/{at}:{at}" for at in range(5000))
    rows = read_chunks([text_of([items] * 6)], dialects=[Verl]).rows()
    assert [row.values.tolist() for row in rows] == [[float(at) for at in range(5000)]] * 6
    log = read_chunks([text_of([" - ".join(f"key/{at}:{at}" for at in range(10_003))])], dialects=[Verl])
    assert [len(row.keys) for row in log.rows()] == [10_000]
    assert {"key/10000", "key/10001", "key/10002"} == log.refused_keys
