from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from orz_monitor.records import StepRecord
from orz_train.errors import BackendMissingError
from orz_train.runlog.errors import LogWriteError
from orz_train.runlog.tensorboard import TensorBoardLog, tokens_per_second

pytestmark = pytest.mark.unit


def record(step: int, reward: float) -> StepRecord:
    return StepRecord(
        step=step, time=100.0 + step, metrics={"reward/mean": reward, "tokens/trained": 100.0}, seconds={"total": 4.0}
    )


def scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(tag)]


def test_metrics_phases_and_throughput_are_scalars(tmp_path: Path) -> None:
    """Tags are the metric names, `seconds/<phase>`, and the derived `tokens/per_second`."""
    log = TensorBoardLog(tmp_path)
    log.write(record(1, 0.25))
    log.close()
    assert [(1, 0.25)] == scalars(tmp_path, "reward/mean")
    assert [(1, 4.0)] == scalars(tmp_path, "seconds/total")
    assert [(1, 25.0)] == scalars(tmp_path, "tokens/per_second")


def test_a_resume_purges_the_steps_that_it_repeats(tmp_path: Path) -> None:
    """Steps 2 and 3 of the first attempt vanish from the curve when the second goes on after step 1."""
    first = TensorBoardLog(tmp_path)
    for step in (1, 2, 3):
        first.write(record(step, 0.25))
    first.close()
    second = TensorBoardLog(tmp_path)
    second.begin_after(1)
    second.write(record(2, 0.75))
    second.close()
    assert [(1, 0.25), (2, 0.75)] == scalars(tmp_path, "reward/mean")


def test_nothing_is_imported_or_written_before_the_first_scalar(tmp_path: Path) -> None:
    """A run that never steps has no TensorBoard folder."""
    log = TensorBoardLog(tmp_path / "tensorboard")
    log.close()
    assert not (tmp_path / "tensorboard").exists()


def test_a_missing_tensorboard_names_the_pip_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the setting that does without."""
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto.event_pb2", None)
    with pytest.raises(BackendMissingError, match=r"pip install tensorboard, or set logging\.tensorboard=false"):
        TensorBoardLog(tmp_path).write(record(1, 0.25))


def test_a_folder_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    """A file in the place of the folder."""
    (tmp_path / "tensorboard").write_text("")
    with pytest.raises(LogWriteError, match="tensorboard: can't be written"):
        TensorBoardLog(tmp_path / "tensorboard").write(record(1, 0.25))


@pytest.mark.parametrize("seconds", [{}, {"total": 0.0}, {"total": float("nan")}])
def test_no_throughput_without_a_time(seconds: dict[str, float]) -> None:
    """Nothing is divided by zero or by nothing."""
    assert tokens_per_second(StepRecord(step=1, time=0.0, metrics={"tokens/trained": 1.0}, seconds=seconds)) is None
    assert tokens_per_second(StepRecord(step=1, time=0.0, metrics={}, seconds={"total": 1.0})) is None
