"""DeepSpeed's steps, timers, overflows and memory pressure."""

from __future__ import annotations

from pathlib import Path

import pytest

from orz_cli.findings import Severity, Status
from orz_monitor.dialects.deepspeed import DeepSpeed
from orz_monitor.engine import judge
from orz_monitor.loading import load_run
from orz_monitor.log import Event, Log, Row
from orz_monitor.reading import read_chunks

pytestmark = pytest.mark.unit

PREFIX = "(PolicyRayActorBase pid=6) [2025-02-22 10:11:12,345] [INFO] [logging.py:128:log_dist] [Rank 0] "
STEP = PREFIX + "step=100, skipped=2, lr=[1e-06], mom=[(0.9, 0.95)]"
TIMER = PREFIX + "time (ms) | fwd_microstep: 12.50 | bwd: 25.00 | step: 1e-99"
SPEED = (
    PREFIX + "epoch=0/micro_step=400/global_step=100, RunningAvgSamplesPerSec=5.5, CurrSamplesPerSec=inf, "
    "MemAllocated=17.25GB, MaxMemAllocated=20.5GB"
)
OVERFLOW = "[deepspeed] OVERFLOW! Rank 0 Skipping step. Attempted loss scale: 65536, reducing to 32768"
FLUSHES = (
    "[2025-02-22 10:11:12,345] [WARNING] [stage3.py:2140:step] 12 pytorch allocator cache flushes since last step. "
    "this happens when there is high memory pressure and is detrimental to performance."
)


def read(*lines: str) -> Log:
    log = read_chunks([("\n".join(lines) + "\n").encode()], dialects=[DeepSpeed])
    DeepSpeed().number(log)
    return log


def rows(log: Log) -> list[Row]:
    return [entry for entry in log.entries if isinstance(entry, Row)]


def values(row: Row) -> dict[str, float]:
    return dict(zip(row.keys, row.values, strict=True))


def test_a_step_keeps_every_number() -> None:
    """A list of one learning rate has its plain name, momenta are numbered."""
    (row,) = rows(read(STEP))
    assert (row.step, row.origin.role) == (100, "PolicyRayActorBase")
    assert values(row) == {"skipped": 2, "lr": 1e-6, "mom/0": 0.9, "mom/1": 0.95}


def test_timers_and_speed_are_of_the_step_before() -> None:
    """Timers are in milliseconds; DeepSpeed's GB are 2^30 bytes."""
    _, timer, speed = rows(read(STEP, TIMER, SPEED))
    assert (timer.step, speed.step) == (100, 100)
    assert values(timer) == pytest.approx({"time/fwd_microstep": 0.0125, "time/bwd": 0.025, "time/step": 1e-102})
    assert values(speed)["MemAllocated"] == 17.25 * 2**30
    assert values(speed)["MaxMemAllocated"] == 20.5 * 2**30
    assert values(speed)["micro_step"] == 400
    assert values(speed)["CurrSamplesPerSec"] == float("inf")


@pytest.mark.parametrize("rank", ["", "[Rank 0] ", "[Rank 0] rank=0 "])
def test_ranks_are_not_always_named(rank: str) -> None:
    """Some versions leave the rank out, in each kind of line, and the line of speed is then its timer's own."""
    head = "[2024-05-01 10:00:00,000] [INFO] [logging.py:96:log_dist] " + rank
    step, timer, speed = rows(
        read(
            head + "step=10, skipped=0, lr=[1e-06], mom=[0.9]",
            head + "time (ms) | fwd: 1.2 | bwd-inner: 3.4",
            "[2024-05-01 10:00:01,000] [INFO] [timer.py:260:stop] epoch=0/micro_step=40/global_step=10, "
            "RunningAvgSamplesPerSec=5.5, MaxMemAllocated=2.0GB",
        )
    )
    assert values(step) == {"skipped": 0, "lr": 1e-6, "mom": 0.9}
    assert values(timer) == pytest.approx({"time/fwd": 0.0012, "time/bwd-inner": 0.0034})
    assert values(speed) == {
        "epoch": 0, "micro_step": 40, "global_step": 10, "RunningAvgSamplesPerSec": 5.5, "MaxMemAllocated": 2 * 2**30
    }  # fmt: skip
    assert (timer.step, speed.step) == (10, 10)


@pytest.mark.parametrize("head", [PREFIX, "[rank0] "])
def test_every_timer_is_read_or_listed(head: str) -> None:
    """A name may hold spaces, a time its own unit; what is no number is among the keys without one."""
    log = read(
        head + "time (ms) | forward pass: 3.2 | bwd: 3ms | all reduce:2 s | step: 4, | opt: 1,234.5 | lost: nan "
        "| comm: 3.2 (max 4) | odd"
    )
    (row,) = rows(log)
    assert values(row) == pytest.approx(
        {
            "time/forward pass": 0.0032,
            "time/bwd": 0.003,
            "time/all reduce": 2.0,
            "time/step": 0.004,
            "time/opt": 1.2345,
            "time/lost": float("nan"),
        },
        nan_ok=True,
    )
    assert log.texts == {("deepspeed", "time/comm"), ("deepspeed", "time/odd")}


def test_overflows_and_memory_pressure_are_events() -> None:
    """Each says what a reader needs to judge it."""
    overflow, flushes = [entry for entry in read(OVERFLOW, FLUSHES).entries if isinstance(entry, Event)]
    assert (overflow.event, overflow.data["rank"], overflow.data["loss_scale"]) == ("skipped_update", 0, "65536")
    assert (flushes.event, flushes.data["kind"], flushes.data["count"]) == ("notice", "memory_pressure", 12)
    assert "high memory pressure" in str(flushes.data["message"])


def test_other_lines_of_its_logger() -> None:
    """A configuration or a torn line is nothing."""
    assert not read(PREFIX + "Using client Optimizer", PREFIX + "step=", PREFIX + "time (ms) | ", STEP[:130]).entries[
        1:
    ]


def test_its_steps_are_not_the_trainers(tmp_path: Path) -> None:
    """A log of verl with DeepSpeed below it is verl's: 100 optimizer steps are no step 100 of the run.

    What the engine says goes to the step that ends next, and what it says after the last one to that.
    """
    path = tmp_path / "train.log"
    lines = ["step:1 - actor/pg_loss:0.5 - actor/lr:1e-06", STEP, "step:2 - actor/pg_loss:0.25 - actor/lr:1e-06", SPEED]
    path.write_text("\n".join(lines), encoding="utf-8")
    run = load_run(path)
    assert run.framework == "verl"
    assert run.steps.tolist() == [1, 2]
    assert run.metrics["memory/peak_bytes"].steps.tolist() == [2]
    assert run.metrics["memory/peak_bytes"].values.tolist() == [20.5 * 2**30]
    assert run.metrics["policy/lr"].steps.tolist() == [1, 2]
    assert run.metrics["policy/skipped_updates"].steps.tolist() == [2]
    assert run.metrics["policy/skipped_updates"].values.tolist() == [2]


def optimizer_step(step: int, skipped: int, lr: float, role: str = "PolicyRayActorBase") -> str:
    return PREFIX.replace("PolicyRayActorBase", role) + f"step={step}, skipped={skipped}, lr=[{lr}], mom=[(0.9, 0.95)]"


def test_where_nobody_else_has_steps_its_own_are_the_runs(tmp_path: Path) -> None:
    """What it has skipped so far becomes what it skipped since the line before; a restart counts from 0."""
    path = tmp_path / "train.log"
    skipped = [0, 2, 2, 5, 1]
    lines = [optimizer_step(10 * (i + 1), so_far, 1e-6 * (i + 1)) for i, so_far in enumerate(skipped)]
    path.write_text("\n".join([*lines, SPEED.replace("global_step=100", "global_step=50"), ""]), encoding="utf-8")
    run = load_run(path)
    assert run.steps.tolist() == [10, 20, 30, 40, 50]
    assert run.series("policy/skipped_updates").values.tolist() == [0, 2, 0, 3, 1]
    assert run.series("policy/lr").values.tolist() == pytest.approx([1e-6, 2e-6, 3e-6, 4e-6, 5e-6])
    verdict = judge(run)
    assert verdict.status() is not Status.INCONCLUSIVE
    assert "skipped_updates" in [finding.code for finding in verdict.findings]


@pytest.mark.parametrize(
    ("each", "severity"), [(1, Severity.WARN), (5, Severity.ERROR)], ids=["10 of 100", "50 of 100"]
)
def test_a_line_every_ten_steps_is_not_ten_steps_in_a_row(tmp_path: Path, each: int, severity: Severity) -> None:
    """Loss scaling leaves out one step now and then; of what is logged every ten, nobody knows what was in a row."""
    path = tmp_path / "train.log"
    path.write_text("".join(f"{optimizer_step(10 * i, each * i, 1e-6)}\n" for i in range(1, 11)), encoding="utf-8")
    (finding,) = (found for found in judge(load_run(path)).findings if found.code == "skipped_updates")
    assert finding.severity is severity


def test_what_the_critics_engine_says_is_the_critics(tmp_path: Path) -> None:
    """Two engines count on their own: neither's learning rate is the other's, nor its skipped updates."""
    path = tmp_path / "train.log"
    lines = [
        optimizer_step(step, so_far, lr, role)
        for step in (10, 20)
        for role, so_far, lr in (("CriticRayActorBase", step, 5e-6), ("PolicyRayActorBase", 1, 1e-6))
    ]
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    run = load_run(path)
    assert run.restarts == ()
    assert run.series("policy/lr").values.tolist() == [1e-6, 1e-6]
    assert run.series("critic/lr").values.tolist() == [5e-6, 5e-6]
    assert run.series("policy/skipped_updates").values.tolist() == [1, 0]
    assert run.series("critic/skipped_updates").values.tolist() == [10, 10]
