"""Alignment and differences of runs, against numbers worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from orz_cli.errors import UsageError
from orz_monitor.compare.alignment import compare
from orz_monitor.compare.axis import Axis
from orz_monitor.compare.page import as_page
from orz_monitor.compare.text import broken, print_comparison
from orz_monitor.log import Column
from orz_monitor.table import Table

pytestmark = pytest.mark.unit


def column(key: str, steps: list[int], values: list[float], times: list[float] | None = None) -> Column:
    return Column(
        key=key,
        steps=np.array(steps, dtype=np.int64),
        values=np.array(values, dtype=np.float64),
        times=np.array(times if times is not None else [math.nan] * len(steps)),
        file=Path("x"),
    )


def noisy(name: str, level: float, *, steps: int = 200, amplitude: float = 1.0) -> Table:
    """A run that jumps by twice `amplitude` at each step, up and down."""
    values = [level + amplitude * (-1) ** step for step in range(steps)]
    return Table(name=name, columns=(column("x", list(range(steps)), values),))


def test_the_last_tenth_of_the_common_range_is_compared() -> None:
    """Run A goes to step 100, run B to step 50: both are read at steps 45 to 50."""
    a = Table(name="a", columns=(column("x", list(range(101)), [float(i) for i in range(101)]),))
    b = Table(name="b", columns=(column("x", list(range(51)), [2.0 * i for i in range(51)]),))
    comparison = compare([a, b], Axis.STEP)
    assert (comparison.first, comparison.last) == (0, 50)
    assert [level.value for level in comparison.rows[0].levels] == [47.5, 95.0]


def test_differences_are_in_units_of_both_runs_noise() -> None:
    """Twice the noise in both runs halves the distance; the first run has none."""
    quiet = compare([noisy("a", 0.0), noisy("b", 10.0)], Axis.STEP).rows[0].levels
    loud = compare([noisy("a", 0.0, amplitude=2.0), noisy("b", 10.0, amplitude=2.0)], Axis.STEP).rows[0].levels
    assert quiet[0].sigmas is None
    assert quiet[1].sigmas is not None
    assert loud[1].sigmas == pytest.approx(quiet[1].sigmas / 2)
    together = math.hypot(quiet[0].noise, quiet[1].noise)
    assert quiet[1].sigmas == pytest.approx(10 / together)
    assert quiet[1].clear


def test_runs_without_noise_or_difference() -> None:
    """Equal constants differ by nothing; the noise of unequal ones is taken as a hundredth of each."""
    a = Table(name="a", columns=(column("x", [0, 1], [1.0, 1.0]), column("y", [0, 1], [1.0, 1.0])))
    b = Table(name="b", columns=(column("x", [0, 1], [1.0, 1.0]), column("y", [0, 1], [0.5, 0.5])))
    rows = {row.key: row.levels[1].sigmas for row in compare([a, b], Axis.STEP).rows}
    assert rows == {"x": 0.0, "y": pytest.approx(-0.5 / math.hypot(0.01, 0.005))}
    still = Table(name="a", columns=(column("x", list(range(100)), [0.0] * 100),))
    jumps = Table(name="b", columns=(column("x", list(range(100)), [0.0] * 90 + [1.0] * 10),))
    assert compare([still, jumps], Axis.STEP).rows[0].levels[1].sigmas == math.inf


def test_alignment_by_tokens_and_time() -> None:
    """Tokens of steps are added up, sums are taken as they are; time begins with each run's first record."""
    a = Table(
        name="a",
        columns=(
            column("reward", [1, 2, 3], [0.1, 0.2, 0.3], [100.0, 110.0, 120.0]),
            column("tokens/trained", [1, 2, 3], [10.0, 20.0, 30.0], [100.0, 110.0, 120.0]),
        ),
    )
    b = Table(
        name="b",
        columns=(
            column("reward", [7, 8], [0.5, 0.6], [1000.0, 1015.0]),
            column("num_tokens", [7, 8], [30.0, 55.0], [1000.0, 1015.0]),
        ),
    )
    by_tokens = compare([a, b], Axis.TOKENS)
    assert [line.at.tolist() for line in by_tokens.rows[0].lines] == [[10, 30, 60], [30, 55]]
    assert (by_tokens.first, by_tokens.last) == (30, 55)
    by_time = compare([a, b], Axis.TIME)
    assert [line.at.tolist() for line in by_time.rows[0].lines] == [[0, 10, 20], [0, 15]]
    with pytest.raises(UsageError, match="no part of the axis step in common"):
        compare([a, b], Axis.STEP)


def test_what_can_not_be_aligned_is_said() -> None:
    """No tokens, no times, nothing in common, nothing at all."""
    a, b = noisy("a", 0.0), Table(name="b", columns=(column("y", [1], [1.0]),))
    with pytest.raises(UsageError, match="a: none of tokens/trained"):
        compare([a, a], Axis.TOKENS)
    with pytest.raises(UsageError, match="a: neither times of records nor seconds/total were logged"):
        compare([a, a], Axis.TIME)
    with pytest.raises(UsageError, match="no metric in common"):
        compare([a, b], Axis.STEP)
    with pytest.raises(UsageError, match="no value to compare"):
        compare([a, Table(name="c", columns=())], Axis.STEP)


def test_non_finite_values_are_left_out() -> None:
    """Of a metric that is NaN throughout, nothing is said."""
    a = Table(name="a", columns=(column("x", [1, 2, 3], [1.0, math.nan, 3.0]), column("y", [1], [math.nan])))
    comparison = compare([a, a, a], Axis.STEP)
    levels = {row.key: [level.value for level in row.levels] for row in comparison.rows}
    assert levels["x"] == [2.0, 2.0, 2.0]
    assert repr(levels["y"]) == "[nan, nan, nan]"
    assert comparison.names == ("a (1)", "a (2)", "a (3)")
    assert "<svg" in as_page(comparison)


@pytest.mark.parametrize(
    ("name", "width", "lines"),
    [
        ("verl-ppo-gemma2-2b-full.log", 14, ["verl-ppo-", "gemma2-2b-", "full.log"]),
        ("verl-ppo-qwen0.5b-full.log", 14, ["verl-ppo-", "qwen0.5b-full.", "log"]),
        ("rollout/response_tokens_mean", 24, ["rollout/response_tokens_", "mean"]),
        ("short", 14, ["short"]),
        ("x" * 20, 14, ["x" * 20]),
        ("実験-一", 5, ["実験-", "一"]),
        ("", 14, [""]),
    ],
)
def test_names_break_between_words(name: str, width: int, lines: list[str]) -> None:
    """Never in a word, nor in a number; wide letters count twice."""
    assert lines == broken(name, width).split("\n")


def lines_of(names: list[str], width: int, *, terminal: bool) -> list[str]:
    """Print a comparison of runs of these names that differ clearly in one metric."""
    tables = [
        replace(table, columns=(replace(table.columns[0], key="rollout/response_tokens_mean"),))
        for table in (noisy(name, 20.0 * index) for index, name in enumerate(names))
    ]
    out = StringIO()
    print_comparison(Console(file=out, width=width, force_terminal=terminal, no_color=True), compare(tables, Axis.STEP))
    return [line.rstrip() for line in out.getvalue().replace("\x1b[1m", "").replace("\x1b[0m", "").splitlines()[1:]]


def test_the_table_breaks_heads_before_metrics() -> None:
    """On a terminal of 80 columns; on one of 120 nothing is broken, and in a pipe neither."""
    names = ["verl-ppo-gemma2-2b-full.log", "verl-ppo-qwen-large-full.log"]
    value = "rollout/response_tokens_mean"
    expected = [
        f"{'verl-ppo-':>40}",
        f"{'gemma2-2b-':>40}{'verl-ppo-qwen-':>16}",
        f"metric{'full.log':>34}{'large-full.log':>16}",
        f"{value}{'0':>12}  20  +6.7 sigma",
    ]
    assert expected == lines_of(names, 80, terminal=True)
    (head, _) = lines_of(names, 120, terminal=True)
    assert names == head.split()[1:]
    (head, row) = lines_of([*names, *names], 80, terminal=False)
    assert (4, value) == (head.count("full.log"), row.split()[0])


def test_many_runs_have_a_line_for_a_difference() -> None:
    """Two lines a row, of words; the numbers of a column end where its head does."""
    expected = [
        f"{'metric':24}{'a':>3}{'b':>12}{'c':>13}{'d':>13}{'e':>13}",
        f"rollout/response_tokens_{'0':>3}{'20':>12}{'40':>13}{'60':>13}{'80':>13}",
        f"{'mean':24}{'':3}{'+6.7 sigma':>12}{'+13.5 sigma':>13}{'+20.2 sigma':>13}{'+27.0 sigma':>13}",
    ]
    assert expected == lines_of(list("abcde"), 80, terminal=True)


def test_a_narrow_terminal_has_a_line_for_each_run() -> None:
    """Where not even broken names fit; no word and no number is ever cut."""
    names = ["verl-ppo-qwen0.5b-full.log", "b", "c", "d"]
    expected = [
        "run 1  verl-ppo-qwen0.5b-full.log",
        "run 2  b",
        "run 3  c",
        "run 4  d",
        "rollout/response_tokens_mean",
        "    1   0",
        "    2  20  +6.7 sigma",
        "    3  40  +13.5 sigma",
        "    4  60  +20.2 sigma",
    ]
    for width in (40, 50, 55):
        assert expected == lines_of(names, width, terminal=True)
    assert "metric" in [line.partition(" ")[0] for line in lines_of(names, 62, terminal=True)]


def test_what_does_not_differ_is_counted_and_a_single_step_is_named() -> None:
    """One metric differs, several differ; of one step there is no last tenth."""

    def said(*keys: str, steps: int) -> list[str]:
        table = noisy("a", 0.0, steps=steps)
        table = replace(table, columns=tuple(replace(table.columns[0], key=key) for key in keys))
        out = StringIO()
        print_comparison(Console(file=out, width=80), compare([table, table], Axis.STEP))
        return out.getvalue().splitlines()

    whole = "steps 0 to 9; the last tenth of it is compared"
    assert [whole, "1 metric differs by less than 3 times its own noise"] == said("x", steps=10)
    assert [whole, "2 metrics differ by less than 3 times their own noise"] == said("x", "y", steps=10)
    assert "step 0, the only one that all have" == said("x", steps=1)[0]


def test_what_was_not_read_is_told() -> None:
    """Each place once, in text and on the page; of very many the number."""
    tables = [replace(noisy(name, 0.0), problems=("a.gz is damaged",)) for name in "ab"]
    tables.append(replace(noisy("c", 0.0), problems=tuple(f"line {number} is none" for number in range(6))))
    comparison = compare(tables, Axis.STEP)
    out = StringIO()
    print_comparison(Console(file=out, width=80), comparison)
    told = ["a.gz is damaged", *(f"line {n} is none" for n in range(5)), "and 1 place more that could not be read"]
    assert [f"not all was read: {problem}" for problem in told] == out.getvalue().splitlines()[1:8]
    page = as_page(comparison)
    assert all(page.count(f"not all was read: {problem}<") == 1 for problem in told)


def test_the_page_escapes_and_forbids_everything() -> None:
    """Names of runs and metrics are text; no script, nothing from elsewhere."""
    hostile = "<img src=x onerror=alert(1)>\x1b[31m"
    a = Table(name=hostile, columns=(column(hostile, [1, 2], [1.0, 2.0]),))
    page = as_page(compare([a, a], Axis.STEP))
    assert "<img" not in page
    assert "\x1b" not in page
    assert "default-src 'none'" in page
    assert "<script></script>" in page
    assert "http" not in page.replace("http-equiv", "")
