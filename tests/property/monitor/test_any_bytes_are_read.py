"""Logs are hostile: no bytes raise, no cut into chunks changes what is read, no line costs more than its length."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orz_monitor.dialects import GENERIC, Dialect, find_dialect, known_dialects
from orz_monitor.log import Log, Row
from orz_monitor.reading import read_chunks
from orz_monitor.row_steps import numbered
from orz_monitor.transport.lines import Line, Splitter

pytestmark = pytest.mark.property

PIECES = [
    b"step:12 - actor/pg_loss:0.5 - actor/lr:np.float64(1e-06)",
    b"step:",
    b" - ",
    b"\x1b[36m(TaskRunner pid=12)\x1b[0m ",
    b"\x1b]8;;http://x\x07",
    b"\x1b[",
    b"Actor Train epoch [1/1]:  94%|#| 17/18 [02:06<00:06,  6.57s/it, pg=0.033, ret=nan]",
    b"Critic Train epoch [",
    b"s/it, pg=",
    b"Episode [2/20]:   3%|#| 3/100 [6:55:57<58:14:56, 530.88s/it]",
    b"2025-02-21 22:59:11.882 | INFO     | orz.ppo.trainer:train:173 - {'policy_loss': 0.5, 'kl': {'a': 1}}",
    b"--- config key ---",
    b" 4%|#| 9/200 [03:00<1:04:17, 20.20s/it]{'loss': '-0.0074', 'learning_rate': '9.5e-06'",
    b"{'train_runtime': 1.0}",
    b"Traceback (most recent call last)",
    b"KeyError: 'x'",
    b"Initial validation metrics: {'a': 1,",
    b"loss: 0.5 reward=1",
    b"{",
    b"}", b"'", b"(", b"[", b"]", b"|", b", ", b"=", b"\r", b"\n", b"\r\n", b"\0", b"\xff\xfe", b"\xe2\x96",
    b" ", b"9",
]  # fmt: skip
LOGS = st.lists(st.sampled_from(PIECES) | st.binary(max_size=8), max_size=40).map(b"".join)


def every_dialect() -> list[type[Dialect]]:
    return [*known_dialects(), find_dialect(GENERIC)]


def said(log: Log) -> list[tuple[object, ...]]:
    found = [(row.line, row.dialect, row.keys, [f"{value:.9g}" for value in row.values]) for row in log.rows()]
    others = [(entry.line, entry.dialect, type(entry).__name__) for entry in log.entries if not isinstance(entry, Row)]
    return sorted(map(repr, [*found, *others]))


@given(LOGS)
@settings(max_examples=150, deadline=None)
def test_no_bytes_raise(data: bytes) -> None:
    """Whatever a log holds, reading and numbering its entries ends well, and numbers are numbers."""
    kinds = every_dialect()
    log = read_chunks([data], dialects=kinds)
    assert all(len(row.keys) == len(row.values) for row in log.rows())
    ledger = numbered(log, [kind() for kind in kinds])
    assert all(len(keys) == len(table) for (_, keys), table in zip(ledger.shapes, ledger.tables, strict=True))


@given(LOGS, st.lists(st.integers(min_value=0, max_value=400), max_size=6))
@settings(max_examples=150, deadline=None)
def test_no_cut_changes_lines(data: bytes, cuts: list[int]) -> None:
    """Lines are the same however the bytes arrive, over-long ones too."""
    expected = [line[:16] for line in data.split(b"\n")]
    places = sorted({0, len(data), *(min(cut, len(data)) for cut in cuts)})
    splitter = Splitter(longest=16)
    text = b"".join(splitter.feed(data[a:b]) for a, b in pairwise(places)) + splitter.close()
    assert text.split(b"\n")[:-1] == (expected if expected[-1] else expected[:-1])
    assert splitter.num_bytes == len(data)
    assert splitter.num_skipped_bytes == sum(max(len(line) - 16, 0) for line in data.split(b"\n"))


@given(LOGS)
@settings(max_examples=100, deadline=None)
def test_byte_by_byte_is_the_same_as_at_once(data: bytes) -> None:
    """A log that grows by a byte a time says what the whole one says."""
    kinds = every_dialect()
    whole = read_chunks([data], dialects=kinds)
    parts = read_chunks([data[i : i + 1] for i in range(len(data))], dialects=kinds)
    assert said(parts) == said(whole)


@pytest.mark.parametrize(
    "unit",
    [
        b"{'learning_rate': ",
        b"step:1 - a:1 - ",
        b"\x1b[",
        b"s/it, Train epoch [| 1/",
        b"loss: 1 ",
        b"(a pid=",
        b"[[",
        b"\r",
        b"1:",
    ],
)
def test_a_line_of_megabytes_is_read(unit: bytes) -> None:
    """Ten million bytes without a newline: work that grew with the square of the length would take hours."""
    data = unit * (10_000_000 // len(unit))
    log = read_chunks([data], dialects=every_dialect())
    assert log.files[0].num_cut_lines == 1
    assert Line(data[: 1 << 20]).segments is not None
