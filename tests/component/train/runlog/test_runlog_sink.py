"""The run log as a whole: every file of a run's folder, and what a person is shown of it."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from pyarrow import parquet
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from orz_monitor.loading import load_run
from orz_monitor.records import EventRecord, StepRecord
from orz_train.config.schema import Config
from orz_train.runlog import RunFolder, RunLog
from orz_train.types import StepReport

pytestmark = pytest.mark.component

NUM_STEPS = 4
MakeConfig = Callable[..., Config]
MakeReport = Callable[..., StepReport]
WholeRun = Callable[[RunLog], None]
Records = Callable[[Path], list[StepRecord | EventRecord]]


def test_a_run_writes_every_file_of_its_folder(
    log_in: Callable[..., Path], streams: dict[str, io.StringIO], whole_run: WholeRun, records: Records
) -> None:
    """Records, console log, rollouts, environment and TensorBoard; lines on stderr; the summary on stdout."""
    path = log_in(whole_run, logging={"rollouts_every_steps": 2})
    found = records(path)
    assert ["start", 0, 1, 2, 3, 4, "checkpoint_saved", "finish"] == [
        record.step if isinstance(record, StepRecord) else record.event for record in found
    ]
    assert isinstance(found[0], EventRecord)
    assert {"recipe", "steps", "config_sha256"} == found[0].data.keys()
    assert isinstance(found[-2], EventRecord)
    assert {"path": "checkpoints/step_000004", "bytes": 2048, "seconds": 0.5} == found[-2].data
    assert ["step_000001", "step_000002", "step_000004"] == sorted(file.stem for file in (path / "rollouts").iterdir())
    assert ["answer 4"] == parquet.read_table(path / "rollouts" / "step_000004.parquet").column("response").to_pylist()
    assert 1 == json.loads((path / "environment.json").read_text())["v"]
    scalars = EventAccumulator(str(path / "tensorboard"))
    scalars.Reload()
    assert [0.25, 0.5, 0.75, 1.0] == [event.value for event in scalars.Scalars("reward/mean")]
    assert [
        "training for 4 steps",
        "evaluation after step 0: sums 0.250",
        "step 1/4  reward 0.250  pg nan    1.0 s  eta 0:03",
    ] == streams["stderr"].getvalue().splitlines()[:3]
    assert "saved checkpoints/step_000004 (2.05 kB, 0.50 s)" in streams["stderr"].getvalue()
    assert streams["stdout"].getvalue().startswith("\ntiny finished: 4 of 4 steps in 0:06\n")
    assert "answer 1" in streams["stdout"].getvalue()


def test_the_console_log_has_the_lines_of_orz(log_in: Callable[..., Path], whole_run: WholeRun) -> None:
    """Of each step, in their order, between the header and the events."""
    lines = (log_in(whole_run) / "console.log").read_text().splitlines()
    assert lines[0].startswith("orz-train ")
    shapes = [re.sub(r"^\S+ \S+ \| (\w+) +\| \S+ - ", r"\1 ", line) for line in lines]
    first = shapes.index("INFO sums/accuracy: 0.2500,eval_accuracy: 0.2500") + 1
    assert [
        "INFO avg_raw_rewards: 0.5, avg_kl: 0.0, avg_custom_rewards: 0.25",
        "INFO Generate sequences, time cost: 0.50s",
        "Critic Train epoch [1/1]: 100%|██████████| 1/1 [00:00<?, ?it/s, critic_loss=0.1]",
        "Actor Train epoch [1/1]: 100%|██████████| 1/1 [00:00<?, ?it/s, pg=nan, ret=0.5, kl=0]",
        "INFO {'policy_loss': nan, 'kl': 0.0, 'return': 0.5, 'policy_update_steps': 1.0}",
        "Episode [1/1]:  25%|██▌       | 1/4 [00:01<00:03,  1.00it/s]",
    ] == shapes[first : first + 6]


def test_the_console_log_alone_has_the_steps_of_the_records(
    log_in: Callable[..., Path], tmp_path: Path, make_report: MakeReport
) -> None:
    """Two passes over prompts for 3 steps each, the second cut short: the last step is 5, not 4."""

    def body(log: RunLog) -> None:
        log.event("start")
        for step in range(1, 6):
            log.write(make_report(step))
        log.event("finish", reason="all steps done")

    path = log_in(body, num_steps=5, steps_per_episode=3)
    alone = tmp_path / "x.log"
    alone.write_bytes((path / "console.log").read_bytes())
    assert "Episode [2/2]: 100%|██████████| 2/2 " in alone.read_text()
    console, whole = load_run(alone), load_run(path)
    assert ("orz-train", [1, 2, 3, 4, 5]) == (console.framework, console.steps.tolist())
    for name in ("reward/mean", "return/mean", "critic/loss"):
        assert whole.series(name).steps.tolist() == console.series(name).steps.tolist()
        assert whole.series(name).values.tolist() == pytest.approx(console.series(name).values.tolist())


def test_equal_metrics_are_equal_bytes_whatever_the_clock_says(
    tmp_path: Path, streams: dict[str, io.StringIO], make_config: MakeConfig, make_report: MakeReport
) -> None:
    """Two runs of different speed: `metrics` of every line are the same text."""

    def metrics_of(name: str, seconds: float) -> list[str]:
        with (
            RunFolder(make_config(), tmp_path / name) as folder,
            RunLog(folder, num_steps=NUM_STEPS, **streams) as log,
        ):
            for step in range(1, NUM_STEPS + 1):
                log.write(make_report(step, seconds=seconds * step))
        return re.findall(r'"metrics":\{[^}]*\}', (tmp_path / name / "metrics.jsonl").read_text())

    fast, slow = metrics_of("fast", 0.1), metrics_of("slow", 7.3)
    assert NUM_STEPS == len(fast)
    assert fast == slow


def test_an_evaluation_is_shown_once_however_it_comes(
    log_in: Callable[..., Path], streams: dict[str, io.StringIO], make_report: MakeReport
) -> None:
    """As an event, within a step's metrics, or both."""

    def body(log: RunLog) -> None:
        log.event("evaluation", step=1, metrics={"eval/sums/accuracy": 0.25})
        log.write(make_report(1, **{"eval/sums/accuracy": 0.25}))
        log.write(make_report(2, **{"eval/sums/accuracy": 0.5}))

    path = log_in(body)
    assert [
        "evaluation after step 1: sums 0.250",
        "evaluation after step 2: sums 0.500",
    ] == [line for line in streams["stderr"].getvalue().splitlines() if line.startswith("evaluation")]
    assert 2 == (path / "console.log").read_text().count("eval_accuracy")
    assert "eval sums   0.250 -> 0.500  (+0.250)" in streams["stdout"].getvalue()
