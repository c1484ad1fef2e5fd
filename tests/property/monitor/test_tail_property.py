"""Whatever a log holds, in whatever pieces it comes: the live view draws it, and the terminal obeys none of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orz_monitor.engine import judge
from orz_monitor.tail.lines import LastLines
from orz_monitor.tail.log_reader import LogReader
from orz_monitor.tail.records_reader import RecordsReader
from orz_monitor.tail.view import View

pytestmark = pytest.mark.property

FRAGMENTS = st.sampled_from(
    [
        b"\n",
        b"\r",
        b"a\tb",
        b'{"v":1,"kind":"step","step":4,"time":5,"metrics":{"x\\ny\\t\\u001b[31m":1},"seconds":{"a\\nb":2}}\n',
        b'{"v":1,"kind":"step","step":5,"time":5,"metrics":{"x\\ny\\t\\u001b[31m":2},"seconds":{"a\\nb":2}}\n',
        b"\x1b[2J",
        b"\x1b]8;;http://x\x07",
        b"\x9b31m",
        b"\xe2\x80\xae",
        b"step:3 - actor/pg_loss:nan - ",
        b"step:99999999999999999999 - a:1e999 - ",
        b'{"v":1,"kind":"step","step":3,"time":"nan","metrics":{"policy/loss":"inf"},"seconds":{}}\n',
        b'{"v":1,"kind":"event","event":"start","time":0,"data":{"steps":-1}}\n',
        b'{"v":1,"kind":"event","event":"finish","time":1e308,"data":{"steps":"x"}}\n',
        b"Traceback (most recent call last):\n",
    ]
)
PIECES = st.lists(st.one_of(st.binary(max_size=40), FRAGMENTS), max_size=30)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=PIECES, width=st.integers(20, 220), height=st.integers(1, 70), ours=st.booleans())
def test_any_log_is_drawn(tmp_path: Path, pieces: list[bytes], width: int, height: int, ours: bool) -> None:
    """No exception, the size of the terminal, and no character that it would obey."""
    path = tmp_path / "a.log"
    reader = RecordsReader(path, None) if ours else LogReader(path, None)
    lines = LastLines()
    for piece in pieces:
        reader.feed(piece)
        lines.feed(piece)
    run = reader.snapshot()
    view = View(title="\x1b[31ma.log", now=1e9, run=run, verdict=judge(run), lines=lines, height=height)
    drawn = view.drawn(width)
    assert height == len(drawn)
    for line in drawn:
        assert line.cell_len <= width
        assert not [c for c in line.plain if ord(c) < 32 or 127 <= ord(c) < 160 or c == "\u202e"]
