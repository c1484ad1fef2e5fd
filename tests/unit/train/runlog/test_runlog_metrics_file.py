from __future__ import annotations

from pathlib import Path

import pytest

from orz_monitor.records import EventRecord, RecordError, StepRecord, dumps, read_records
from orz_train.runlog.errors import LogWriteError
from orz_train.runlog.metrics import MetricsFile

pytestmark = pytest.mark.unit

FIRST = StepRecord(step=1, time=1.0, metrics={"reward/mean": 0.25})
SECOND = StepRecord(step=2, time=2.0, metrics={"reward/mean": 0.5})


def test_records_are_appended_a_line_each(tmp_path: Path) -> None:
    """What the contract's writer says is what the file holds, over two openings."""
    path = tmp_path / "metrics.jsonl"
    for record in (FIRST, SECOND):
        file = MetricsFile(path)
        file.write(record)
        file.close()
    assert f"{dumps(FIRST)}\n{dumps(SECOND)}\n" == path.read_text()


def test_a_torn_line_of_a_killed_run_costs_no_record(tmp_path: Path) -> None:
    """The torn line is ended, stays as it was, and the next record is whole."""
    path = tmp_path / "metrics.jsonl"
    path.write_text(dumps(FIRST) + "\n" + dumps(SECOND)[:20])
    file = MetricsFile(path)
    file.write(SECOND)
    file.close()
    assert [dumps(FIRST), dumps(SECOND)[:20], dumps(SECOND), ""] == path.read_text().split("\n")
    assert [FIRST, None, SECOND] == [line.record for line in read_records(path)]


def test_a_full_disk_names_the_file_and_the_next_step(tmp_path: Path) -> None:
    """ENOSPC becomes an error with exit code 1 and a remedy, at this record and at each later one."""
    path = tmp_path / "metrics.jsonl"
    path.symlink_to("/dev/full")
    file = MetricsFile(path)
    for _ in range(2):
        with pytest.raises(LogWriteError, match=r"metrics\.jsonl: can't be written: No space left") as caught:
            file.write(FIRST)
    assert 1 == caught.value.exit_code
    assert "--resume auto" in caught.value.remedy
    file.close()


def test_after_a_failed_write_the_next_line_stands_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that a failed write left behind don't run into the following record."""
    path = tmp_path / "metrics.jsonl"
    file = MetricsFile(path)
    inner = file._file

    class TornOnce:
        def __init__(self) -> None:
            self.calls = 0

        def write(self, data: memoryview) -> int:
            self.calls += 1
            if self.calls == 2:
                raise OSError(28, "No space left on device")
            return inner.write(data[:10]) if self.calls == 1 else inner.write(data)

        def __getattr__(self, name: str) -> object:
            return getattr(inner, name)

    monkeypatch.setattr(file, "_file", TornOnce())
    with pytest.raises(LogWriteError):
        file.write(FIRST)
    file.write(SECOND)
    file.close()
    assert [None, SECOND] == [line.record for line in read_records(path)]


def test_a_record_that_the_contract_forbids_leaves_no_trace(tmp_path: Path) -> None:
    """It is refused before a byte is written."""
    path = tmp_path / "metrics.jsonl"
    file = MetricsFile(path)
    with pytest.raises(RecordError):
        file.write(EventRecord(event="x", time=0.0, data={"bad": object()}))
    file.write(FIRST)
    file.close()
    assert [FIRST] == [line.record for line in read_records(path)]


def test_a_folder_in_its_place_is_a_clear_error(tmp_path: Path) -> None:
    """Opening fails with the name of the path."""
    with pytest.raises(LogWriteError, match="Is a directory"):
        MetricsFile(tmp_path)
