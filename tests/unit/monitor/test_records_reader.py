"""Reading a records file that is growing, torn or damaged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from orz_monitor.records import StepRecord, dumps, read_records

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.unit


def step(number: int) -> StepRecord:
    return StepRecord(step=number, time=float(number), metrics={"reward/mean": 0.5})


def written(number: int) -> bytes:
    return dumps(step(number)).encode() + b"\n"


def test_records_come_back_in_order(tmp_path: Path) -> None:
    """Line numbers count from 1 and skip nothing, empty lines are no lines."""
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(written(0) + b"\n   \n" + written(1))
    assert [(1, step(0)), (4, step(1))] == [(line.number, line.record) for line in read_records(path)]


def test_an_empty_file_has_no_lines(tmp_path: Path) -> None:
    """A run that has just started is not an error."""
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"")
    assert [] == list(read_records(path))


def test_a_whole_last_line_without_newline_is_a_record(tmp_path: Path) -> None:
    """Only what is missing is missing."""
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(written(0).rstrip())
    assert [step(0)] == [line.record for line in read_records(path)]


def test_a_record_torn_at_any_byte_is_reported_once(tmp_path: Path) -> None:
    """Wherever the kill came, the records before stay readable and the torn one is reported, not raised."""
    path = tmp_path / "metrics.jsonl"
    whole = written(1)
    for cut in range(1, len(whole) - 1):
        path.write_bytes(written(0) + whole[:cut])
        first, torn = read_records(path)
        assert step(0) == first.record
        assert (2, None, True) == (torn.number, torn.record, torn.torn)
        assert torn.error == "cut off while it was written"


def test_a_record_appended_to_a_torn_line_is_found(tmp_path: Path) -> None:
    """A restart that appends without a newline loses nothing but the torn record, at any cut."""
    path = tmp_path / "metrics.jsonl"
    whole = written(1)
    for cut in range(1, len(whole) - 1):
        path.write_bytes(written(0) + whole[:cut] + written(2) + written(3))
        lines = list(read_records(path))
        assert [step(0), None, step(2), step(3)] == [line.record for line in lines]
        assert [False, True, False, False] == [line.torn for line in lines]


def test_damage_in_the_middle_is_reported_with_its_line(tmp_path: Path) -> None:
    """Bytes that are no text, and text that is no record, are stepped over."""
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(written(0) + b"\xff\xfe\x00\n" + b"hello\n" + written(1))
    lines = list(read_records(path))
    assert [1, 2, 3, 4] == [line.number for line in lines]
    assert [False, True, True, False] == [bool(line.error) for line in lines]
    assert "UTF-8" in lines[1].error
    assert "JSON" in lines[2].error


def test_a_missing_file_raises(tmp_path: Path) -> None:
    """Whoever asks for a file that is not there learns it at once."""
    with pytest.raises(FileNotFoundError):
        list(read_records(tmp_path / "metrics.jsonl"))
