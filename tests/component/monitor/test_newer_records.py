"""Records of a later version are no damage and no pass: the reader says that it is too old."""

from __future__ import annotations

from pathlib import Path

import pytest

from orz_monitor.errors import UnreadableRunError
from orz_monitor.loading import load_run
from orz_monitor.testing import healthy_metrics, step_records, write_run

pytestmark = pytest.mark.component


def test_a_later_version_is_inconclusive(tmp_path: Path) -> None:
    """One line of version 99 among good ones: could not decide, with the line and the remedy."""
    folder = write_run(tmp_path / "run", step_records(healthy_metrics(30)))
    records = folder / "metrics.jsonl"
    lines = records.read_text(encoding="utf-8").splitlines(keepends=True)
    records.write_text("".join([*lines, lines[-1].replace('"v":1', '"v":99')]), encoding="utf-8")
    with pytest.raises(UnreadableRunError, match=rf"line {len(lines) + 1}: record of version 99") as caught:
        load_run(folder)
    assert 3 == caught.value.exit_code
    assert "upgrade" in caught.value.remedy


def test_a_step_beyond_any_array_is_damage(tmp_path: Path) -> None:
    """A step of 2^63 is no step: the line counts as unreadable, the rest is judged."""
    records = write_run(tmp_path / "run", step_records(healthy_metrics(30))) / "metrics.jsonl"
    text = records.read_text(encoding="utf-8")
    huge = text.splitlines()[-1].replace('"step":', f'"step":{2**63}, "was":', 1)
    records.write_text(f"{text}{huge}\n", encoding="utf-8")
    run = load_run(tmp_path / "run")
    assert 1 == len(run.coverage.unreadable)
