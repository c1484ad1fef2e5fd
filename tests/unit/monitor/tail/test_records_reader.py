"""A records file read in pieces is what `load_run` reads of the whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from orz_monitor.loading import load_run
from orz_monitor.tail.records_reader import RecordsReader
from orz_monitor.testing import healthy_metrics, step_records, write_run

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("size", [7, 1000, 1 << 20])
def test_torn_damaged_and_repeated_lines(tmp_path: Path, size: int) -> None:
    """A record behind a torn line is found, a damaged line counts, steps that are repeated win."""
    write_run(tmp_path, step_records(healthy_metrics(20)), finished=False)
    path = tmp_path / "metrics.jsonl"
    lines = path.read_text(encoding="ascii").splitlines()
    lines[5:7] = [lines[5][:40] + lines[6]]  # a writer died, and its successor appended to the torn line
    lines += ["not JSON", *lines[15:]]
    path.write_text("\n".join(lines) + "\n", encoding="ascii")
    reader, data = RecordsReader(path, tmp_path), path.read_bytes()
    for at in range(0, len(data), size):
        reader.feed(data[at : at + size])
    read, whole = reader.snapshot(), load_run(tmp_path)
    assert [*range(4), *range(5, 20)] == read.steps.tolist() == whole.steps.tolist()
    assert (15,) == read.restarts == whole.restarts
    assert ["cut off while it was written"] == [line.error for line in read.coverage.unreadable][:1]
    assert whole.coverage == read.coverage
    assert whole.lines == read.lines
    assert whole.metrics["policy/loss"].values.tolist() == read.metrics["policy/loss"].values.tolist()
