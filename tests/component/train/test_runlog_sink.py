"""The run log as a whole, on real files, processes and terminals."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pyarrow import parquet
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from orz_monitor.loading import load_run
from orz_monitor.records import EventRecord, StepRecord, read_records
from orz_train.config.schema import Config
from orz_train.errors import DataError, RunFolderError
from orz_train.runlog import LogWriteError, RunFolder, RunLog
from orz_train.runlog.errors import UnregisteredMetricError
from orz_train.types import FinishReason, Prompt, Rollout, Score, StepReport

pytestmark = pytest.mark.component

NUM_STEPS = 4


def config(**settings: object) -> Config:
    defaults: dict[str, object] = {
        "name": "tiny",
        "backend": "local",
        "steps": NUM_STEPS,
        "prompts_per_step": 4,
        "samples_per_prompt": 2,
        "data": {"train": ("train.jsonl",), "max_prompt_tokens": 16},
        "generation": {"max_response_tokens": 16},
        "policy": {"model": "base", "optimizer": {"lr": 1e-4}},
        "critic": {"optimizer": {"lr": 5e-4}},
        "packing": {"max_tokens_per_row": 64},
        "logging": {"tensorboard": False, "rollouts_every_steps": 2},
    }
    return Config.model_validate(defaults | settings)


def report(step: int, *, seconds: float = 1.0, reward: float | None = None, **metrics: float) -> StepReport:
    prompt = Prompt(prompt_id="train:7", text="3+4=", token_ids=(5, 12), answer="7")
    rollout = Rollout(
        rollout_id=f"{step}/train:7/0",
        prompt_id="train:7",
        group_index=0,
        token_ids=(5, 12, 1),
        prompt_len=2,
        sampler_logprobs=(-0.1,),
        finish=FinishReason.STOP,
        policy_version=step - 1,
        text=f"answer {step}",
    )
    return StepReport(
        step=step,
        metrics={
            "reward/mean": step / 4 if reward is None else reward,
            "return/mean": 0.5,
            "policy/loss": float("nan"),
            "policy/updates": 1.0,
            "critic/loss": 0.1,
            "tokens/trained": 100.0,
            **metrics,
        },
        seconds={"generate": seconds / 2, "total": seconds},
        policy_version=step - 1,
        samples=[(prompt, rollout, Score(reward=1.0))],
    )


@pytest.fixture
def streams() -> dict[str, io.StringIO]:
    return {"stdout": io.StringIO(), "stderr": io.StringIO()}


@pytest.fixture
def log_in(tmp_path: Path, streams: dict[str, io.StringIO]) -> Callable[..., Path]:
    """Run a body in a new run log in `tmp_path / name`, strict and with a clock that stands still."""

    def run(
        body: Callable[[RunLog], object],
        *,
        name: str = "run",
        num_steps: int = NUM_STEPS,
        steps_per_episode: int | None = None,
        **settings: object,
    ) -> Path:
        path = tmp_path / name
        with (
            RunFolder(config(**settings), path) as folder,
            RunLog(
                folder,
                num_steps=num_steps,
                steps_per_episode=steps_per_episode,
                now=lambda: 1.5,
                strict=True,
                **streams,
            ) as log,
        ):
            body(log)
        return path

    return run


def whole_run(log: RunLog) -> None:
    log.environment({"generator": "local"})
    log.event("start")
    log.write(StepReport(step=0, metrics={"eval/sums/accuracy": 0.25}, seconds={"eval": 2.0}, policy_version=0))
    for step in range(1, NUM_STEPS + 1):
        log.phase("generate", 4, 8)
        log.write(report(step))
    log.event("checkpoint_saved", step=4, path=str(log._folder.checkpoints / "step_000004"), bytes=2048, seconds=0.5)
    log.event("finish", reason="all steps done")


def records(path: Path) -> list[StepRecord | EventRecord]:
    lines = list(read_records(path / "metrics.jsonl"))
    assert [] == [line for line in lines if line.record is None and not line.torn]
    return [line.record for line in lines if line.record is not None]


def test_a_run_writes_every_file_of_its_folder(log_in: Callable[..., Path], streams: dict[str, io.StringIO]) -> None:
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


def test_the_console_log_has_the_lines_of_orz(log_in: Callable[..., Path]) -> None:
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


def test_the_console_log_alone_has_the_steps_of_the_records(log_in: Callable[..., Path], tmp_path: Path) -> None:
    """Two passes over prompts for 3 steps each, the second cut short: the last step is 5, not 4."""

    def body(log: RunLog) -> None:
        log.event("start")
        for step in range(1, 6):
            log.write(report(step))
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


def test_equal_metrics_are_equal_bytes_whatever_the_clock_says(tmp_path: Path, streams: dict[str, io.StringIO]) -> None:
    """Two runs of different speed: `metrics` of every line are the same text."""

    def metrics_of(name: str, seconds: float) -> list[str]:
        with (
            RunFolder(config(), tmp_path / name) as folder,
            RunLog(folder, num_steps=NUM_STEPS, **streams) as log,
        ):
            for step in range(1, NUM_STEPS + 1):
                log.write(report(step, seconds=seconds * step))
        return re.findall(r'"metrics":\{[^}]*\}', (tmp_path / name / "metrics.jsonl").read_text())

    fast, slow = metrics_of("fast", 0.1), metrics_of("slow", 7.3)
    assert NUM_STEPS == len(fast)
    assert fast == slow


def test_a_continuation_appends_and_the_later_record_counts(
    log_in: Callable[..., Path], streams: dict[str, io.StringIO]
) -> None:
    """Steps 3 and 4 are done twice; old lines stay, the curve in TensorBoard and the summary are of the new ones."""
    tensorboard = {"tensorboard": True}
    path = log_in(whole_run, logging=tensorboard)
    before = (path / "metrics.jsonl").read_bytes()

    def again(log: RunLog) -> None:
        log.event("resume", step=2, path=path / "checkpoints" / "step_000002")
        for step in (3, 4):
            log.write(report(step, reward=0.125))
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


def test_a_killed_run_can_go_on(tmp_path: Path, streams: dict[str, io.StringIO]) -> None:
    """SIGKILL while it writes: the lock is taken over with a notice, every whole record is still read."""
    path = tmp_path / "run"
    with subprocess.Popen(
        [sys.executable, "-c", _ENDLESS_RUN, str(Path(__file__)), str(path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert "step 20\n" in iter(process.stdout.readline, "")
        with pytest.raises(RunFolderError, match=rf"process {process.pid} is writing there"):
            RunFolder(config(steps=1000), path)
        process.kill()
    with (path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"v":1,"kind":"step","st')  # the line that a kill may leave, whatever it left here
    with (
        RunFolder(config(steps=1000), path) as folder,
        RunLog(folder, num_steps=1000, **streams) as log,
    ):
        log.event("resume", step=19)
        log.write(report(20))
    found = records(path)
    steps = [record.step for record in found if isinstance(record, StepRecord)]
    assert [*range(1, len(steps)), 20] == steps
    notice = f"took over {path}: process {process.pid} died without closing it"
    assert notice in [record.data.get("message") for record in found if isinstance(record, EventRecord)]
    assert f"warning: {notice}\n" in streams["stderr"].getvalue()
    assert not (path / ".lock").exists()


_LOAD_HELPERS = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("helpers", sys.argv[1])
helpers = importlib.util.module_from_spec(spec)
spec.loader.exec_module(helpers)
from pathlib import Path
from orz_train.runlog import RunFolder, RunLog
"""

_ENDLESS_RUN = (
    _LOAD_HELPERS
    + """
with RunFolder(helpers.config(steps=1000), Path(sys.argv[2])) as folder, RunLog(folder, num_steps=1000) as log:
    for step in range(1, 1001):
        log.write(helpers.report(step))
        print("step", step, flush=True)
"""
)


@pytest.mark.parametrize(("file", "part"), [("metrics.jsonl", "_metrics"), ("console.log", "_console")])
def test_a_full_disk_ends_the_run_with_a_clear_error(
    log_in: Callable[..., Path], tmp_path: Path, streams: dict[str, io.StringIO], file: str, part: str
) -> None:
    """Exit code 1, the file and the next step; everything that was opened is closed and unlocked."""

    def body(log: RunLog) -> None:
        log.event("start")
        log.write(report(1))
        with Path("/dev/full").open("ab") as full:
            os.dup2(full.fileno(), getattr(log, part)._file.fileno())
        log.write(report(2))

    with pytest.raises(LogWriteError, match=rf"{file}: can't be written: No space left on device") as caught:
        log_in(body)
    assert 1 == caught.value.exit_code
    assert [1] == [record.step for record in records(tmp_path / "run")[1:2]]
    assert not (tmp_path / "run" / ".lock").exists()
    assert [] == [h for h in logging.getLogger("orz_train").handlers if h.__class__.__module__.startswith("orz_train")]
    assert "" == streams["stdout"].getvalue()


def crash(log: RunLog, error: BaseException) -> None:
    log.event("start")
    log.write(report(1))
    raise error


@pytest.mark.parametrize(
    ("error", "event", "traceback", "message"),
    [
        (RuntimeError("boom"), "error", True, "RuntimeError: boom"),
        (DataError("row 7 is odd", remedy="mend it"), "error", False, "row 7 is odd"),
        (KeyboardInterrupt(), "interrupted", False, None),
    ],
)
def test_why_a_run_ends_is_recorded(
    log_in: Callable[..., Path],
    streams: dict[str, io.StringIO],
    tmp_path: Path,
    error: BaseException,
    event: str,
    traceback: bool,
    message: str | None,
) -> None:
    """Only what nobody foresaw has a traceback, at the end of the log; only what didn't fail has a summary."""
    with pytest.raises(type(error)):
        log_in(lambda log: crash(log, error))
    last = records(tmp_path / "run")[-1]
    assert isinstance(last, EventRecord)
    assert (event, 1, message) == (last.event, last.step, last.data.get("message"))
    console = (tmp_path / "run" / "console.log").read_text()
    assert traceback == ("Traceback" in console)
    assert traceback == console.endswith("RuntimeError: boom\n")
    assert (event == "interrupted") == streams["stdout"].getvalue().startswith("\ntiny interrupted: 1 of 4 steps")
    assert "boom" not in streams["stderr"].getvalue()


def test_an_evaluation_is_shown_once_however_it_comes(
    log_in: Callable[..., Path], streams: dict[str, io.StringIO]
) -> None:
    """As an event, within a step's metrics, or both."""

    def body(log: RunLog) -> None:
        log.event("evaluation", step=1, metrics={"eval/sums/accuracy": 0.25})
        log.write(report(1, **{"eval/sums/accuracy": 0.25}))
        log.write(report(2, **{"eval/sums/accuracy": 0.5}))

    path = log_in(body)
    assert [
        "evaluation after step 1: sums 0.250",
        "evaluation after step 2: sums 0.500",
    ] == [line for line in streams["stderr"].getvalue().splitlines() if line.startswith("evaluation")]
    assert 2 == (path / "console.log").read_text().count("eval_accuracy")
    assert "eval sums   0.250 -> 0.500  (+0.250)" in streams["stdout"].getvalue()


def test_names_that_are_not_registered_raise_in_tests_and_warn_once_in_runs(
    log_in: Callable[..., Path], tmp_path: Path, streams: dict[str, io.StringIO]
) -> None:
    """A long run is not lost to a typo."""
    with pytest.raises(UnregisteredMetricError, match="reward/men is no metric"):
        log_in(lambda log: log.write(report(1, **{"reward/men": 1.0})))
    with pytest.raises(UnregisteredMetricError, match="eval/sums/acuracy is no metric"):
        log_in(lambda log: log.event("evaluation", step=1, metrics={"eval/sums/acuracy": 1.0}))
    with (
        RunFolder(config(), tmp_path / "loose") as folder,
        RunLog(folder, num_steps=NUM_STEPS, **streams) as log,
    ):
        for step in (1, 2):
            log.write(report(step, **{"reward/men": 1.0}))
    assert 1 == streams["stderr"].getvalue().count("warning: reward/men is no metric")
    assert 1.0 == [record.metrics["reward/men"] for record in records(tmp_path / "loose")[1:]][1]


def test_warnings_of_our_packages_reach_the_log_and_the_person(
    log_in: Callable[..., Path], streams: dict[str, io.StringIO]
) -> None:
    """INFO goes to the log only; after the run nobody listens any more."""

    def body(_: RunLog) -> None:
        logging.getLogger("orz_ckpt.storage").warning("slow disk", extra={"seconds": 3})
        logging.getLogger("orz_train.data").info("read", extra={"num_rows": 7})

    path = log_in(body)
    logging.getLogger("orz_train.data").warning("later")
    assert "warning: slow disk\n" == streams["stderr"].getvalue()
    console = (path / "console.log").read_text()
    assert " | WARNING  | orz_ckpt.storage:body:" in console
    assert console.endswith(" - read num_rows=7\n")


def test_changed_settings_and_environment_are_warned_of(
    log_in: Callable[..., Path], streams: dict[str, io.StringIO], monkeypatch: pytest.MonkeyPatch
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


class _Screen(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("variables", "coloured", "bold"),
    [
        ({"TERM": "xterm-256color"}, True, True),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, False, True),
        ({"TERM": "dumb"}, False, False),
    ],
)
def test_a_summary_has_colours_on_a_terminal_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], *, coloured: bool, bold: bool
) -> None:
    """`NO_COLOR` takes the colours away, a terminal without escapes gets none, and the words are the same."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    screen = _Screen()
    with (
        RunFolder(config(), tmp_path / "run") as folder,
        RunLog(folder, num_steps=NUM_STEPS, stdout=screen, stderr=io.StringIO()) as log,
    ):
        log.write(report(1))
        log.event("finish", reason="all steps done")
    shown = screen.getvalue()
    assert (coloured, bold) == ("\x1b[1;36m" in shown, "\x1b[1m" in shown)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert plain.startswith("\ntiny finished: 1 of 4 steps in 0:01\n\n  reward      0.250\n")
    assert f"  log         {tmp_path / 'run' / 'console.log'}\n" in plain


def test_closing_twice_writes_one_summary(log_in: Callable[..., Path], streams: dict[str, io.StringIO]) -> None:
    """By hand and at the end of the context."""

    def body(log: RunLog) -> None:
        log.write(report(1))
        log.close()

    log_in(body)
    assert 1 == streams["stdout"].getvalue().count("tiny stopped: 1 of 4 steps")
