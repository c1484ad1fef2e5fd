"""Whether the numbers of a table have decimal points or decimal commas: `1.234,5` is how many countries write 1,234.5.

A spreadsheet writes as its country does, and puts semicolons between cells where commas are decimal marks. `0,5` and
`1.234,5` say themselves what they are; `1.234` does not, and is what the rest of its column is. Where that says nothing
either, the column is not read: it would be wrong by a factor of a thousand.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

_POINT: Final = "."
_COMMA: Final = ","
_NUMBER: Final = re.compile(
    r"\s*[-+]?(?P<digits>[.,]?\d[\d.,]{0,300})(?P<exponent>[eE][-+]?\d{1,4})?(?: ?[A-Za-z%/_][A-Za-z%/_ ]{0,40})?\s*",
    re.ASCII,
)
_OF_THOUSANDS: Final = 2
"""So many of a mark in one number stand between thousands."""
_PLAIN: Final = re.compile(r"-?\d*,\d+", re.ASCII)
"""A number with a decimal comma as most of a table are, told faster than by all that a number may be."""
_FORMS: Final = {
    _POINT: re.compile(r"(?:[1-9]\d{0,2}(?:,\d{3})+|\d*)(?:\.\d*)?", re.ASCII),
    _COMMA: re.compile(r"(?:[1-9]\d{0,2}(?:\.\d{3})+|\d*)(?:,\d+)?", re.ASCII),
}
"""Digits by their decimal mark; the other mark is between thousands."""

Rows = Iterable[tuple[int, Sequence[str]]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Doubt:
    """A column whose decimal mark can't be told.

    Attributes:
        column: its index.
        cell: a number in it that may be one of two.
        line: where that is.
    """

    column: int
    cell: str
    line: int

    def __str__(self) -> str:
        """Say what the number may be.

        Example:
            >>> str(Doubt(column=0, cell="1.234", line=2))
            "'1.234' may be 1234 or 1.234"
        """
        marks = (_COMMA, _POINT) if _POINT in self.cell else (_POINT, _COMMA)
        readings = [with_point(self.cell.strip(), mark).replace(",", "") for mark in marks]
        return f"'{self.cell.strip()}' may be {' or '.join(readings)}"


@dataclass(frozen=True, kw_only=True, slots=True)
class DecimalMarks:
    """The decimal marks of a table's columns.

    Attributes:
        marks: of each column; of one in doubt it says nothing.
        doubts: the columns that can't be read.
        has_commas: whether any number has a decimal comma.
    """

    marks: tuple[str, ...]
    doubts: tuple[Doubt, ...] = ()
    has_commas: bool = False

    def read(self, cells: Sequence[str]) -> Sequence[str]:
        """Return the cells of a row with all numbers written with decimal points; those in doubt are empty."""
        if not self.has_commas and not self.doubts:
            return cells
        if self.has_commas:
            cells = [with_point(cell, mark) for cell, mark in zip(cells, self.marks, strict=True)]
        plain = list(cells)
        for doubt in self.doubts:
            plain[doubt.column] = ""
        return plain


@dataclass(slots=True)
class _Column:
    """What the numbers of a column say of its decimal mark."""

    proven: str = ""
    doubtful: tuple[int, str] | None = None

    def look(self, line: int, cell: str) -> None:
        """Take a cell; one that can't say more than those before did is not looked at closely."""
        own, other = (_COMMA, _POINT) if self.proven == _COMMA else (_POINT, _COMMA)
        if other not in cell and cell.count(own) < (_OF_THOUSANDS if self.proven else 1):
            return
        marks = possible_marks(cell)
        if len(marks) == 1:
            self.proven += marks if marks not in self.proven else ""
        elif marks and self.doubtful is None:
            self.doubtful = (line, cell)


def decimal_marks(rows: Callable[[], Rows], num_columns: int, *, between: str) -> DecimalMarks:
    """Find out how the numbers of a table are written.

    Args:
        rows: reads its rows anew, numbered by line, without the names; only those of `num_columns` cells count.
        num_columns: how many columns it has.
        between: what is between its cells. Semicolons leave open what a comma is; others stand for decimal points
            in columns that say nothing themselves, unless the only numbers that do have decimal commas.
    """
    of_points = between != ";"
    if of_points and not any(possible_marks(cell) == _COMMA for _, cells in rows() for cell in cells if _COMMA in cell):
        return DecimalMarks(marks=(_POINT,) * num_columns)
    columns = [_Column() for _ in range(num_columns)]
    for line, cells in rows():
        if len(cells) == num_columns:
            for column, cell in zip(columns, cells, strict=True):
                column.look(line, cell)
    _look_again(columns, rows)
    anywhere = {mark for column in columns for mark in column.proven}
    others = anywhere
    if of_points:
        others = {_POINT} if _POINT in anywhere else {_POINT, *anywhere}
    marks, doubts = [], []
    for index, column in enumerate(columns):
        proven = set(column.proven) or others
        marks.append(_COMMA if proven == {_COMMA} else _POINT)
        if column.doubtful is not None and len(proven) != 1:
            line, cell = column.doubtful
            doubts.append(Doubt(column=index, cell=cell, line=line))
    return DecimalMarks(marks=tuple(marks), doubts=tuple(doubts), has_commas=_COMMA in anywhere)


def _look_again(columns: Sequence[_Column], rows: Callable[[], Rows]) -> None:
    """Find the doubtful numbers of columns with both marks: they were passed over after the first mark."""
    left = {index for index, column in enumerate(columns) if len(column.proven) > 1 and column.doubtful is None}
    for line, cells in rows() if left else ():
        if len(cells) == len(columns):
            for index in [index for index in left if len(possible_marks(cells[index])) > 1]:
                columns[index].doubtful = (line, cells[index])
                left.remove(index)


def possible_marks(cell: str) -> str:
    """Return the decimal marks that a number may have: none where it has neither point nor comma, or is no number.

    Example:
        >>> [possible_marks(cell) for cell in ("1.234,5", "0,123", "0.5", "1.234", "1,234", "12", "warm-up")]
        [',', ',', '.', '.,', '.,', '', '']
    """
    match = _NUMBER.fullmatch(cell)
    if match is None or not (_POINT in match["digits"] or _COMMA in match["digits"]):
        return ""
    return "".join(mark for mark in _FORMS if _is_written_with(mark, match))


def with_point(cell: str, mark: str) -> str:
    """Write a number that has a decimal comma with a point; any other cell stays as it is.

    Args:
        cell: what stands in the table.
        mark: the decimal mark of a number that may have either.

    Example:
        >>> [with_point(cell, ",") for cell in ("1.234,5", "-0,5 s", "1.234", "1,5E-05", "0.5", "a,b")]
        ['1234.5', '-0.5 s', '1234', '1.5E-05', '0.5', 'a,b']
    """
    if mark == _COMMA and _PLAIN.fullmatch(cell):
        return cell.replace(_COMMA, _POINT)
    if _COMMA not in cell and cell.count(_POINT) < (1 if mark == _COMMA else _OF_THOUSANDS):
        return cell
    marks = possible_marks(cell)
    if marks != _COMMA and not (len(marks) > 1 and mark == _COMMA):
        return cell
    return cell.replace(_POINT, "").replace(_COMMA, _POINT)


def _is_written_with(mark: str, match: re.Match[str]) -> bool:
    """Tell whether a number may have this decimal mark; nobody writes thousands apart beside an exponent."""
    other = _COMMA if mark == _POINT else _POINT
    return _FORMS[mark].fullmatch(match["digits"]) is not None and not (match["exponent"] and other in match["digits"])
