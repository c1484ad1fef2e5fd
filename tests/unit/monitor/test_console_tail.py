"""A traceback at the end of a console log."""

from __future__ import annotations

from pathlib import Path

import pytest

from orz_monitor.console import last_traceback

pytestmark = pytest.mark.unit

TRACEBACK = 'Traceback (most recent call last):\n  File "a.py", line 3, in f\n    g()\n'


def found(tmp_path: Path, text: str) -> tuple[int, str] | None:
    path = tmp_path / "console.log"
    path.write_text(text, encoding="utf-8", newline="")
    traceback = last_traceback(path)
    return (traceback.line, traceback.exception) if traceback is not None else None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("step 1\nstep 2\n", None),
        (f"step 1\n{TRACEBACK}ValueError: bad\n", (5, "ValueError: bad")),
        (f"{TRACEBACK}my.pkg.Stopped\n", (4, "my.pkg.Stopped")),
        (f"{TRACEBACK}OSError: \x1b[31mred\x1b[0m\r\n", (4, "OSError: red")),
        (f"{TRACEBACK}KeyError: 1\n\nDuring handling:\n\n{TRACEBACK}TypeError: 2\n", (11, "TypeError: 2")),
        (f"{TRACEBACK}ValueError: bad\n" + "teardown\n" * 20, (4, "ValueError: bad")),
        (f"{TRACEBACK}ValueError: bad\n" + "step\n" * 21, None),
        (f"step 1\n{TRACEBACK}", (2, "the log ends within a traceback")),
        ("╭─ Traceback (most recent call last) ─╮\n│ a.py:3 │\n╰──╯\nValueError: boxed\n", (4, "ValueError: boxed")),
        ("x" * 100_000 + f"\n{TRACEBACK}ValueError: late\n", (5, "ValueError: late")),
        (
            " 10%|# | 1/9\r 20%|## | 2/9\n" * 5000 + f"{TRACEBACK}ValueError: after bars\n",
            (5004, "ValueError: after bars"),
        ),
    ],
)
def test_only_a_traceback_at_the_end_counts(tmp_path: Path, text: str, expected: tuple[int, str] | None) -> None:
    """The exception and its line are found; a log that went on has survived it."""
    assert expected == found(tmp_path, text)
