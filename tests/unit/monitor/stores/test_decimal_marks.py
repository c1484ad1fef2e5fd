"""Tables as spreadsheets of other countries write them: right numbers, or none where it can't be told which."""

from __future__ import annotations

from pathlib import Path

import pytest

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
