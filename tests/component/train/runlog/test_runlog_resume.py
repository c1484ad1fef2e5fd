"""Runs that go on in the folder of an earlier one, whatever ended it: nothing is lost, the later record counts."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from orz_monitor.records import EventRecord, StepRecord
from orz_train.config.schema import Config
from orz_train.errors import RunFolderError
from orz_train.runlog import RunFolder, RunLog
from orz_train.types import StepReport

pytestmark = pytest.mark.component

MakeConfig = Callable[..., Config]
MakeReport = Callable[..., StepReport]
WholeRun = Callable[[RunLog], None]
Records = Callable[[Path], list[StepRecord | EventRecord]]
HELPERS = Path(__file__).with_name("conftest.py")
"""Has the configuration and the reports that the run is made of."""
_ENDLESS_RUN = """
import importlib.util, sys
from pathlib import Path
from orz_train.runlog import RunFolder, RunLog
spec = importlib.util.spec_from_file_location("helpers", sys.argv[1])
helpers = importlib.util.module_from_spec(spec)
spec.loader.exec_module(helpers)
with RunFolder(helpers.config(steps=1000), Path(sys.argv[2])) as folder, RunLog(folder, num_steps=1000) as log:
    for step in range(1, 1001):
        log.write(helpers.report(step))
        print("step", step, flush=True)
"""


def test_a_continuation_appends_and_the_later_record_counts(
    log_in: Callable[..., Path],
    streams: dict[str, io.StringIO],
    whole_run: WholeRun,
    make_report: MakeReport,
    records: Records,
) -> None:
    """Steps 3 and 4 are done twice; old lines stay, the curve in TensorBoard and the summary are of the new ones."""
    tensorboard = {"tensorboard": True}
    path = log_in(whole_run, logging=tensorboard)
    before = (path / "metrics.jsonl").read_bytes()

    def again(log: RunLog) -> None:
        log.event("resume", step=2, path=path / "checkpoints" / "step_000002")
        for step in (3, 4):
            log.write(make_report(step, reward=0.125))
        log.event("finish")

    log_in(again, logging=tensorboard)
    after = (path / "metrics.jsonl").read_bytes()
    assert after.startswith(before)
    found = records(path)
    assert found[8] == EventRecord(event="resume", time=1.5, step=2, data={"path": "checkpoints/step_000002"})
    scalars = EventAccumulator(str(path / "tensorboard"))
    scalars.Reload()
    assert [0.25, 0.5, 0.125, 0.125] == [event.value for event in scalars.Scalars("reward/mean")]
    assert "reward      0.375 -> 0.125" in streams["stdout"].getvalue().split("tiny finished")[2]


def test_a_killed_run_can_go_on(
    tmp_path: Path, streams: dict[str, io.StringIO], make_config: MakeConfig, make_report: MakeReport, records: Records
) -> None:
    """SIGKILL while it writes: the lock is taken over with a notice, every whole record is still read."""
    path = tmp_path / "run"
    with subprocess.Popen(
        [sys.executable, "-c", _ENDLESS_RUN, str(HELPERS), str(path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert "step 20\n" in iter(process.stdout.readline, "")
        with pytest.raises(RunFolderError, match=rf"process {process.pid} is writing there"):
            RunFolder(make_config(steps=1000), path)
        process.kill()
    with (path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"v":1,"kind":"step","st')  # the line that a kill may leave, whatever it left here
    with (
        RunFolder(make_config(steps=1000), path) as folder,
        RunLog(folder, num_steps=1000, **streams) as log,
    ):
        log.event("resume", step=19)
        log.write(make_report(20))
    found = records(path)
    steps = [record.step for record in found if isinstance(record, StepRecord)]
    assert [*range(1, len(steps)), 20] == steps
    notice = f"took over {path}: process {process.pid} died without closing it"
    assert notice in [record.data.get("message") for record in found if isinstance(record, EventRecord)]
    assert f"warning: {notice}\n" in streams["stderr"].getvalue()
    assert not (path / ".lock").exists()


def test_changed_settings_and_environment_are_warned_of(
    log_in: Callable[..., Path],
    streams: dict[str, io.StringIO],
    monkeypatch: pytest.MonkeyPatch,
    whole_run: WholeRun,
    records: Records,
) -> None:
    """Both are kept in the records of the run that goes on."""
    path = log_in(whole_run)
    monkeypatch.setenv("OMP_DYNAMIC", "true")
    log_in(lambda log: log.environment({"generator": "local"}), checkpoint={"every_steps": 7})
    found = [record.data["message"] for record in records(path)[-2:] if isinstance(record, EventRecord)]
    assert [
        "settings changed: checkpoint.every_steps: 50 -> 7",
        "the environment changed: variables.OMP_DYNAMIC: absent -> true",
    ] == found
    assert "warning: settings changed" in streams["stderr"].getvalue()
