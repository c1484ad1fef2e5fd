"""The last lines of a log, and text that may be hostile."""

from __future__ import annotations

import pytest

from orz_monitor.printable import last_refresh, printable
from orz_monitor.tail.lines import LastLines

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]8;;http://evil\x07link\x1b]8;;\x07", "link"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]52;c;aGk=\x07text", "text"),
        ("\x1bPq#0\x1b\\after", "after"),
        ("\x1bcreset", "reset"),
        ("\x9b31mred", "31mred"),
        ("\u202egnp.exe", "gnp.exe"),
        ("a\tb", "a\tb"),
        ("bell\x07 null\x00", "bell null"),
        ("halved \ud800", "halved "),
        ("✨ Global step", "✨ Global step"),
    ],
)
def test_nothing_is_left_that_a_terminal_would_obey(text: str, shown: str) -> None:
    """Colours, links, titles, the clipboard, resets, control and direction characters."""
    assert shown == printable(text)


def test_long_text_is_cut_with_a_mark() -> None:
    """A line of a million characters stays a line."""
    assert "a" * 9 + "…" == printable("a" * 1_000_000, 10)
    assert "aaa" == printable("aaa", 3)


def test_a_bar_shows_its_last_refresh() -> None:
    """What a terminal shows after carriage returns."""
    assert "100%" == last_refresh("  0%\r 50%\r100%")
    assert "100%" == last_refresh("100%\r")
    assert "" == last_refresh("\r\r")


def test_lines_come_whole_from_pieces() -> None:
    """A line that has not ended is shown last; empty ones are left out; bytes that are no text do no harm."""
    lines = LastLines()
    lines.feed(b"one\n\ntw")
    assert ["one", "tw"] == lines.last(5)
    lines.feed(b"o\n\xff\xfe bad\n 0%\r 99%")
    assert ["two", "\ufffd\ufffd bad", " 99%"] == lines.last(3)
    assert [] == lines.last(0)


def test_a_large_piece_keeps_its_end_only() -> None:
    """Eight megabytes at once: the last lines are there."""
    lines = LastLines()
    lines.feed(b"".join(b"line %d\n" % index for index in range(600_000)))
    assert ["line 599998", "line 599999"] == lines.last(2)


def test_one_endless_line_stays_small() -> None:
    """Without an end of line, only the end of what came is kept."""
    lines = LastLines()
    for _ in range(50):
        lines.feed(b"x" * 100_000)
    (line,) = lines.last(5)
    assert len(line) <= 1000
