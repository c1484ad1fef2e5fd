"""Tables as spreadsheets of other countries write them: right numbers, or none where it can't be told which."""

from __future__ import annotations

from pathlib import Path

import pytest

from orz_monitor.engine import judge
from orz_monitor.errors import UnreadableRunError
from orz_monitor.loading import load_run
from orz_monitor.numbers import number
from orz_monitor.stores import open_store
from orz_monitor.stores.base import Store
from orz_monitor.stores.decimal_marks import possible_marks

pytestmark = pytest.mark.unit


def written(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\r\n" for line in lines))
    return path


def read(path: Path, *lines: str) -> Store:
    store = open_store(written(path, *lines))
    assert store is not None
    return store


def points(store: Store, key: str) -> list[tuple[int, float]]:
    column = store.column(key)
    return list(zip(column.steps.tolist(), column.values.tolist(), strict=True))


def test_a_german_spreadsheet(tmp_path: Path) -> None:
    """Semicolons between cells, decimal commas, points between thousands, also of steps; what is no number is text."""
    store = read(
        tmp_path / "lauf.csv",
        "step;loss;tokens;lr;share;note",
        "999;0,5;1.234,5;1,5E-05;5,4%;warm-up",
        "1.000;-0,25;2.000;1E-05;10 %;a,b",
        "1.001;nan;;0,00002;,5%;1,2,3",
    )
    assert [(999, 0.5), (1000, -0.25)] == points(store, "loss")[:2]
    assert [(999, 1234.5), (1000, 2000.0)] == points(store, "tokens")
    assert [(999, 1.5e-05), (1000, 1e-05), (1001, 2e-05)] == points(store, "lr")
    assert [0.054, 0.1, 0.005] == pytest.approx([value for _, value in points(store, "share")])
    assert (("note",), ()) == (store.unread, store.problems)


def test_the_smallest_one(tmp_path: Path) -> None:
    """One row, and one without a whole number in it: both are tables of metrics, and not logs."""
    assert [(1, 0.5)] == points(read(tmp_path / "a.csv", "step;loss", "1;0,5"), "loss")
    assert [(0, 0.5)] == points(read(tmp_path / "b.csv", "loss;reward", "0,5;0,25"), "loss")
    run = load_run(written(tmp_path / "c.csv", "step;loss", "1;0,5", "2;0,25"))
    assert [[0.5, 0.25]] == [series.values.tolist() for series in run.metrics.values()]


@pytest.mark.parametrize("between", [";", ",", "\t"])
def test_a_number_says_what_the_others_of_its_column_are(tmp_path: Path, between: str) -> None:
    """`1,234` and `1.234` are what `0,5` and `0.5` beside them are, with cells in quotes where commas are between."""
    rows = ["step", "a", "b"], ["1", '"1,234"', "1.234"], ["2", '"0,5"', "0.5"], ["3", '"12.345,678"', "12"]
    store = read(tmp_path / "table.csv", *(between.join(row) for row in rows))
    assert [(1, 1.234), (2, 0.5), (3, 12345.678)] == points(store, "a")
    assert [(1, 1.234), (2, 0.5), (3, 12.0)] == points(store, "b")
    assert () == store.problems


@pytest.mark.parametrize("name", ["loss, mean", "loss (p, v, kl)"])
def test_commas_in_names_are_not_between_cells(tmp_path: Path, name: str) -> None:
    """Where semicolons are: half a number would be read as one."""
    assert [(1, 0.5), (2, 0.25)] == points(read(tmp_path / "table.csv", f"step;{name}", "1;0,5", "2;0,25"), name)
    store = read(tmp_path / "other.csv", "step,loss;mean,x", "1,0.5,7")
    assert [(1, 0.5)] == points(store, "loss;mean")


def test_points_between_semicolons(tmp_path: Path) -> None:
    """As `to_csv(sep=";")` writes it, and a spreadsheet with commas between thousands."""
    store = read(tmp_path / "table.csv", "step;loss;tokens", "1;0.5;1,234", "2;1.234;56")
    assert [(1, 0.5), (2, 1.234)] == points(store, "loss")
    assert [(1, 1234.0), (2, 56.0)] == points(store, "tokens")


def test_tables_with_commas_between_are_read_as_ever(tmp_path: Path) -> None:
    """A number with a point is one with a decimal point, though no other says so."""
    store = read(tmp_path / "table.csv", "step,loss,tokens", '1,1.234,"1,234"', '2,2.345,"56,789,012"')
    assert [(1, 1.234), (2, 2.345)] == points(store, "loss")
    assert [(1, 1234.0), (2, 56789012.0)] == points(store, "tokens")


def test_a_comma_in_a_table_of_points_is_its_columns_own(tmp_path: Path) -> None:
    """The ids of GPUs: the other columns are read as if they were not there."""
    store = read(
        tmp_path / "table.csv",
        *('"step","reward","grad_norm","gpus"', '"1","0.301","1.210","0,1"', '"2","0.302","1.220","0,1"'),
    )
    assert [(1, 1.21), (2, 1.22)] == points(store, "grad_norm")
    assert [(1, 0.301), (2, 0.302)] == points(store, "reward")
    assert () == store.problems


def test_a_comma_in_a_table_without_points_leaves_both_open(tmp_path: Path) -> None:
    """Commas between cells are no proof of decimal points where the numbers that say something have commas."""
    store = read(tmp_path / "table.csv", "step,a,b", '1,"0,5",1.234')
    assert ("a",) == store.keys
    (problem,) = store.problems
    assert "line 2: '1.234' may be 1234 or 1.234 in column 'b'" in str(problem)


@pytest.mark.parametrize("between", [";", "\t"])
@pytest.mark.parametrize("cells", [("0.5", "1,5", "1.234"), ("0.5", "1.234", "1,5"), ("1.234", "1,5", "0.5")])
def test_a_column_with_both_is_left_out(tmp_path: Path, between: str, cells: tuple[str, ...]) -> None:
    """What may be either is not read as what was proven first."""
    rows = (between.join((str(step), "0.5", cell)) for step, cell in enumerate(cells))
    store = read(tmp_path / "table.csv", between.join(("step", "a", "b")), *rows)
    assert ("a",) == store.keys
    assert "'1.234' may be 1234 or 1.234 in column 'b'" in str(store.problems[0])


@pytest.mark.parametrize("cells", [("0.5", "1.234.567"), ("1.234.567", "0.5"), ("0,5", "1,234,567")])
def test_thousands_apart_prove_the_other_mark(tmp_path: Path, cells: tuple[str, ...]) -> None:
    """Without a decimal mark of their own, and after a number with one."""
    store = read(tmp_path / "table.csv", "step;a", *(f"{step};{cell}" for step, cell in enumerate(cells)))
    assert {1234567.0, 0.5} == {value for _, value in points(store, "a")}


def test_numbers_in_names_are_names(tmp_path: Path) -> None:
    """`99.5 percentile` looks like a number with a unit, and a row of numbers has no names."""
    store = read(tmp_path / "table.csv", "step,reward,99.5 percentile", "1,0.301,0.1")
    assert [(1, 0.1)] == points(store, "99.5 percentile")
    assert open_store(written(tmp_path / "nameless.csv", "0,5;1,25", "0,5;1,25")) is None


def test_what_to_do_about_points_between_semicolons(tmp_path: Path) -> None:
    """`to_csv(sep=";", float_format="%.3f")` has points, and nothing between thousands: commas between cells are read.

    The damage is explained as what it is, with the same words.
    """
    lines = ["step;loss;reward", "1;1.301;7", "2;1.302;8"]
    problem = str(read(tmp_path / "table.csv", *lines).problems[0])
    remedy = "export it with decimal points, with nothing between thousands, and with commas or tabs between cells"
    assert problem.endswith(f"; {remedy}")
    run = load_run(tmp_path / "table.csv")
    causes = [cause for finding in judge(run).findings if finding.code == "damaged_records" for cause in finding.causes]
    (cause,) = (cause for cause in causes if "decimal" in cause.what)
    assert remedy == cause.try_
    store = read(tmp_path / "export.csv", *(line.replace(";", ",") for line in lines))
    assert [(1, 1.301), (2, 1.302)] == points(store, "loss")


def test_dates_and_lists_in_a_column_of_decimal_commas_stay_what_they_are(tmp_path: Path) -> None:
    """Their marks taken out or exchanged, they would be numbers."""
    store = read(tmp_path / "table.csv", "step;a", "1;0,5", "2;26.11.2026", "3;0.9,0.95", "4;2.10.0", "5;7,", "6;-1,5")
    assert [(1, 0.5), (6, -1.5)] == points(store, "a")


@pytest.mark.parametrize(
    ("cell", "readings"), [("1.234", "1234 or 1.234"), ("1,234", "1234 or 1.234"), ("-12.345", "-12345 or -12.345")]
)
def test_what_may_be_either_is_not_read(tmp_path: Path, cell: str, readings: str) -> None:
    """Nothing else in the table says what it is: an error, with both readings and what to do."""
    with pytest.raises(UnreadableRunError) as caught:
        read(tmp_path / "table.csv", "step;loss", "1;12", f"2;{cell}")
    assert (
        f"no column of numbers in 2 rows; line 3: '{cell}' may be {readings} in column 'loss'" in caught.value.message
    )
    assert "export it with decimal points" in caught.value.remedy


def test_a_column_that_may_be_either_is_left_out_and_told(tmp_path: Path) -> None:
    """The others prove themselves, one this and one that way, and say nothing of it."""
    store = read(tmp_path / "table.csv", "step;a;b;c", "1;0,5;0.5;7", "2;1,25;1.5;1.234")
    assert ("a", "b") == store.keys
    assert [(1, 0.5), (2, 1.25)] == points(store, "a")
    assert [(1, 0.5), (2, 1.5)] == points(store, "b")
    (problem,) = store.problems
    assert "line 3: '1.234' may be 1234 or 1.234 in column 'c'" in str(problem)
    assert "it is left out; export it with decimal points" in str(problem)


def test_steps_that_may_be_either_are_an_error(tmp_path: Path) -> None:
    """Rows are not counted instead: their values would be at other steps."""
    with pytest.raises(UnreadableRunError, match=r"line 3: '1\.000' may be 1000 or 1\.000 in column 'step'"):
        read(tmp_path / "table.csv", "step;tokens", "999;7", "1.000;8")


def test_what_a_country_writes_is_what_another_writes(tmp_path: Path) -> None:
    """Numbers with three decimals and thousands apart, points and commas swapped: the same values."""
    values = [0.5, 12.345, 999.999, 1000.0, 1234.567, 1234567.891, -0.001, -98765.432]
    english = [f"{value:,.3f}" for value in values]
    german = [text.translate(str.maketrans(",.", ".,")) for text in english]
    for name, cells in (("english", english), ("german", german)):
        store = read(tmp_path / f"{name}.csv", "step;x", *(f"{step};{cell}" for step, cell in enumerate(cells)))
        assert list(enumerate(values)) == points(store, "x")


def test_no_number_begins_with_a_zero_and_a_comma_between_thousands() -> None:
    """`0,123` in a log is no 123: less than one, where anything."""
    assert (None, None, 1123.0) == (number(b"0,123"), number(b"-0,123"), number(b"1,123"))


@pytest.mark.parametrize(
    "cell", ["", "12", "-7", "1e5", "nan", "a,b", "1,2,3", "2.10.0", "26.11.2026", "10:30,5", ".", ",", "0.9,0.95"]
)
def test_what_has_no_decimal_mark(cell: str) -> None:
    """Whole numbers, words, lists, versions, dates and times."""
    assert "" == possible_marks(cell)
