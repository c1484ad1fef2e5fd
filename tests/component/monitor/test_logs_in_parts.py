"""A big file is read by several processes: what comes out is what one would have read."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest

from orz_monitor import parts
from orz_monitor.dialects import known_dialects
from orz_monitor.log import Log, Row
from orz_monitor.packing import pack, unpack
from orz_monitor.reading import read_chunks

pytestmark = pytest.mark.component


@pytest.fixture(autouse=True)
def cut_in_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small files have no time to be read while a second process starts."""
    monkeypatch.setattr(parts, "_HEAD_START_BYTES", 0)


def bars(step: int) -> bytes:
    frames = b"\r".join(
        b"Actor Train epoch [1/1]:  1%%|#| %d/9 [00:01<00:06,  6.57s/it, pg=%.2f, kl=0.1]" % (done, step + done / 10)
        for done in range(9)
    )
    return b"(PolicyRayActorBase pid=1) \r" + frames + b"\n"


def status(step: int) -> bytes:
    return b"2025-02-21 22:59:11.882 | INFO     | orz.ppo.trainer:train:173 - {'policy_loss': %d.5}\n" % step


@pytest.mark.parametrize(("num_steps", "number"), [(7, 2), (8, 2), (7, 3), (7, 9)])
def test_all_parts_are_the_whole(tmp_path: Path, num_steps: int, number: int) -> None:
    """Rows, line numbers, and the means of a pass that a cut goes through; also where parts are empty."""
    path = tmp_path / "train.log"
    data = b"".join(bars(step) + b"text\n" + status(step) for step in range(num_steps))
    path.write_bytes(data)
    log = Log()
    parts.read_in_parts(path, log, known_dialects(), number)
    whole = read_chunks([data], path=path)
    assert facts(log) == facts(whole)
    assert log.votes.total() >= num_steps
    assert [(f.num_lines, f.num_bytes) for f in log.files] == [(f.num_lines, f.num_bytes) for f in whole.files]


def test_as_many_parts_as_a_file_is_worth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None but the whole of a small file, of a compressed one, of none, and of any where there is one processor."""
    monkeypatch.setattr(parts.os, "sched_getaffinity", lambda _: range(16))
    path = tmp_path / "train.log"
    sizes = {(64 << 20) - 1: 1, 64 << 20: 2, 200 << 20: 6, 1 << 30: 8}
    found = {}
    for size in sizes:
        with path.open("wb") as file:
            file.truncate(size)
        found[size] = parts.num_parts(path)
    assert found == sizes
    with path.open("r+b") as file:
        file.write(b"\x1f\x8b")
    assert parts.num_parts(path) == parts.num_parts(tmp_path) == parts.num_parts(tmp_path / "none.log") == 1
    with path.open("r+b") as file:
        file.write(b"step")
    monkeypatch.setattr(parts.os, "sched_getaffinity", lambda _: {0})
    assert parts.num_parts(path) == 1


def test_columns_of_two_parts_are_those_of_the_whole(tmp_path: Path) -> None:
    """Lines, steps, times and processes of rows in bulk, of metric lines and of engines."""
    path = tmp_path / "train.log"
    engine = b"(LLMActor pid=%d) INFO 02-24 10:13:50 a.py:455] Avg prompt throughput: %d.5 tokens/s, Running: 2 reqs\n"
    path.write_bytes(
        b"".join(
            b"(TaskRunner pid=3) step:%d - actor/pg_loss:%d.5 - actor/lr:1e-06\n" % (step, step)
            + engine % (step % 4, step)
            for step in range(18_000)
        )
    )
    log = Log()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "CHUNK_BYTES", 1 << 18)  # of this half; the other has whole ones
        parts.read_in_parts(path, log, known_dialects(), 2)
    assert sum(len(rows) for rows in log.bulk) > 20_000
    whole = read_chunks([path.read_bytes()], path=path)
    expected = [repr(replace(row, offset=0)) for row in whole.rows()]  # in bulk a line is one whole
    assert [repr(replace(row, offset=0)) for row in log.rows()] == expected
    assert [repr(replace(row, offset=0)) for row in repacked(log).rows()] == expected
    assert log.votes == whole.votes


def test_a_block_that_the_cut_goes_through_is_read_once(tmp_path: Path) -> None:
    """A traceback whose exception stands in the second part is one fault."""
    path = tmp_path / "train.log"
    before = status(1) * 10
    trace = b"Traceback (most recent call last):\n" + b'  File "a.py", line 1, in f\n' * 20 + b"KeyError: 'x'\n"
    path.write_bytes(before + trace + before[: len(before) - len(trace) // 3])
    log = Log()
    parts.read_in_parts(path, log, known_dialects(), 2)
    whole = read_chunks([path.read_bytes()], path=path)
    assert [e.data for e in log.entries if not isinstance(e, Row)] == [
        e.data for e in whole.entries if not isinstance(e, Row)
    ]


def test_where_the_child_fails_the_parent_reads_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No second process, no loss."""
    path = tmp_path / "train.log"
    path.write_bytes(b"".join(status(step) for step in range(5)))
    monkeypatch.setattr(parts.sys, "executable", "/bin/false")
    log = Log()
    parts.read_in_parts(path, log, known_dialects(), 2)
    assert facts(log) == facts(read_chunks([path.read_bytes()], path=path))


def facts(log: Log) -> list[tuple[int, tuple[str, ...], list[float]]]:
    rows = [entry for entry in log.entries if isinstance(entry, Row)]
    return [(row.line, row.keys, [round(v, 9) for v in row.values]) for row in sorted(rows, key=lambda row: row.line)]


def repacked(log: Log) -> Log:
    file = io.BytesIO()
    pack(log, file)
    file.seek(0)
    again = unpack(file)
    assert again is not None
    return again


def test_a_log_whose_end_is_missing_is_none() -> None:
    """As from a process that was killed while it wrote."""
    file = io.BytesIO()
    pack(read_chunks([b"(TaskRunner pid=3) step:1 - actor/pg_loss:0.5 - actor/lr:1e-06\n"]), file)
    assert unpack(io.BytesIO(file.getvalue()[:-20])) is None
    assert unpack(io.BytesIO()) is None


def test_a_log_survives_its_packing() -> None:
    """Rows with their keys, values, steps and processes; bars, ticks and events; all in their order."""
    lines = [
        b"(TaskRunner pid=3) step:1 - actor/pg_loss:0.5 - actor/lr:1e-06",
        b"Training Progress:  50%|# | 1/2 [00:06<00:06,  6.57s/it]",
        b"(TaskRunner pid=3) step:2 - actor/pg_loss:nan - actor/lr:2e-06",
        b"RuntimeError: CUDA error: an illegal address",
    ]
    log = read_chunks([bars(1) + b"\n".join(lines) + b"\n"])
    again = repacked(log)
    assert [type(entry) for entry in again.entries] == [type(entry) for entry in log.entries]
    assert len(log.entries) == 5
    for ours, theirs in zip(again.entries, log.entries, strict=True):
        names = type(ours).__slots__
        assert repr([getattr(ours, name) for name in names]) == repr([getattr(theirs, name) for name in names])
    assert again.votes == log.votes
    assert again.precisions == log.precisions
    assert log.entries, "packing leaves the log as it was"
