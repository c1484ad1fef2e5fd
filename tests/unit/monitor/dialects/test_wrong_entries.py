"""What a dialect of a user's adds to a log, and is none, is told where it is added."""

from __future__ import annotations

from array import array
from typing import Any, cast

import pytest

from orz_monitor.dialects import Dialect
from orz_monitor.dialects.guarded import DialectError, guarded
from orz_monitor.log import Log
from orz_monitor.reading import read_chunks
from orz_monitor.row_steps import numbered
from orz_monitor.transport.lines import Line

pytestmark = pytest.mark.unit


def adding(method: str, *given: Any, **named: Any) -> type[Dialect]:
    """Return a dialect of a user's that adds this for its second line, and a right row for others."""

    class Mine(Dialect):
        name = "mine"
        gates = (b"<< ",)

        def read(self, line: Line, log: Log) -> bool:
            if line.number != 2:
                return log.add_pairs("mine", [(b"r", b"0.5")], line=line.number, step=line.number) is not None
            getattr(log, method)("mine", *given, **named)
            return True

    return Mine


PAIRS = [(b"r", b"0.5")]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (adding("add_pairs", PAIRS, line="x"), "a row the line 'x', which is no whole number from 0 to 2**40"),
        (adding("add_pairs", PAIRS, line=-1), "a row the line -1, which is no whole number from 0 to 2**40"),
        (
            adding("add_pairs", PAIRS, line=1 << 70),
            f"a row the line {1 << 70}, which is no whole number from 0 to 2**40",
        ),
        (adding("add_pairs", PAIRS, line=2, time="now"), "a row the time 'now', which is no number of seconds"),
        (adding("add_pairs", PAIRS, line=2, origin="rank 0"), "a row the origin 'rank 0', which is no Origin"),
        (adding("add_pairs", PAIRS, line=2, axis=None), "a row the axis None, which is no text"),
        (adding("add_values", ["r"], array("d", [0.5]), line=2), "a row the keys ['r'], which is no tuple of text"),
        (adding("add_values", ("r",), ["a"], line=2), "a row the values ['a'], which is no array of type 'd'"),
        (
            adding("add_values", ("r", "s"), array("d", [0.5]), line=2),
            "a row 2 keys and 1 values: there has to be one for each",
        ),
        (adding("add_tick", "bar", "1", None, line=2), "a tick the done '1', which is no whole number"),
        (
            adding("add_tick", "bar", 1, 2, line=2, elapsed_s="1"),
            "a tick the elapsed_s '1', which is no number of seconds",
        ),
        (adding("add_event", "fault", line=None), "an event the line None, which is no whole number from 0 to 2**40"),
        (adding("add_event", "fault", line=2, data=["a"]), "an event the data ['a'], which is no mapping"),
    ],
)
def test_it_is_told_with_its_place(kind: type[Dialect], said: str) -> None:
    """By the call that added it, and not as an error of whoever uses it later."""
    with pytest.raises(DialectError) as raised:
        read_chunks([b"<< a\n<< b\n<< c\n"], dialects=[guarded(kind, "--dialect a:B")])
    assert f"--dialect a:B: it gave {said}, on -:2" == raised.value.message


def test_what_is_no_entry_at_all() -> None:
    """A list takes anything."""

    class Mine(Dialect):
        name = "mine"
        gates = (b"<< ",)

        def read(self, line: Line, log: Log) -> bool:
            cast("list[object]", log.entries).append(line.number)
            return True

    with pytest.raises(DialectError, match=r"it gave 1, which is no row, tick or event: use the log's `add_` methods"):
        read_chunks([b"<< a\n"], dialects=[guarded(Mine, "--dialect a:B")])


def test_the_step_of_an_event_is_told_when_rows_have_theirs() -> None:
    """Until then a dialect may mend it."""
    guard = guarded(adding("add_event", "fault", line=2, step="two"), "--dialect a:B")
    log = read_chunks([b"<< a\n<< b\n<< c\n"], dialects=[guard])
    with pytest.raises(DialectError, match="it gave line 2 the step 'two', which is no whole number"):
        numbered(log, [guard()])


def test_what_another_process_read_is_told_when_rows_get_their_steps() -> None:
    """There the dialect is read with as it is."""
    kind = adding("add_pairs", PAIRS, line=2, step=2, time="now")
    log = read_chunks([b"<< a\n<< b\n<< c\n"], dialects=[kind])
    with pytest.raises(DialectError, match="it gave a row the time 'now', which is no number of seconds"):
        numbered(log, [guarded(kind, "--dialect a:B")()])


@pytest.mark.parametrize(
    "kind",
    [
        adding("add_pairs", PAIRS, line=2, step=2, time=1.5, axis="eval"),
        adding("add_tick", "bar", 1, None, line=2),
        adding("add_event", "notice", line=2, data={"kind": "a"}),
    ],
)
def test_what_is_right_is_kept(kind: type[Dialect]) -> None:
    """Three lines, three entries."""
    log = read_chunks([b"<< a\n<< b\n<< c\n"], dialects=[guarded(kind, "--dialect a:B")])
    assert [1, 2, 3] == [entry.line for entry in log.entries]
