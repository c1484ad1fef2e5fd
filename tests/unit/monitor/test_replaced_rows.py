"""A row that stood for a line which goes on makes room for the row of the whole line."""

from __future__ import annotations

from array import array

import pytest

from orz_monitor.log import Log, Row

pytestmark = pytest.mark.unit


def row(log: Log, line: int) -> Row:
    return log.add_values("verl", ("a",), array("d", [line]), line=line)


def test_the_row_that_was_just_added_takes_the_place_of_another() -> None:
    """It stands where that one stood, and the line has one vote."""
    log = Log()
    first, shown = row(log, 1), row(log, 2)
    log.add_event("verl", "resume", line=3)
    whole = row(log, 2)
    log.replace(shown, whole)
    assert log.entries[:2] == [first, whole]
    assert [entry.line for entry in log.entries] == [1, 2, 3]
    assert log.votes == {"verl": 2}


def test_a_row_goes_where_nothing_takes_its_place() -> None:
    """With its vote."""
    log = Log()
    first, shown, last = (row(log, line) for line in (1, 2, 3))
    log.replace(shown, None)
    assert log.entries == [first, last]
    assert log.votes == {"verl": 2}
