"""The rules of engines, memory, disks, clocks and restarts on a healthy run with their fault."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orz_cli.findings import Severity
from orz_monitor.engine import Verdict, judge
from orz_monitor.findings import Finding
from orz_monitor.loading import load_run
from orz_monitor.records import EventRecord, Record, StepRecord
from orz_monitor.rules.faults import kind_of_words
from orz_monitor.stats import Array
from orz_monitor.testing import START, healthy_metrics, step_records, write_run

pytestmark = pytest.mark.unit

NUM_STEPS = 60


def judged(folder: Path, records: list[Record], *, finished: bool = True, console: str = "") -> Verdict:
    last = max(record.time for record in records)
    return judge(load_run(write_run(folder, records, finished=finished, console=console), now=last + 5))


def found(verdict: Verdict, code: str) -> Finding | None:
    matching = [finding for finding in verdict.findings if finding.code == code]
    assert len(matching) <= 1
    return matching[0] if matching else None


def with_metrics(**series: Array) -> list[Record]:
    names = {name.replace("__", "/"): values for name, values in series.items()}
    return list(step_records(healthy_metrics(NUM_STEPS) | names))


def late(values: float, usual: float, first: int = 45) -> Array:
    return np.where(np.arange(NUM_STEPS) >= first, values, usual)


@pytest.mark.parametrize(
    ("series", "code", "severity"),
    [
        ({"balance__tokens_max_over_mean": late(2.0, 1.1)}, "straggler", Severity.INFO),
        ({"balance__tokens_spread_frac": late(0.9, 0.1)}, "straggler", Severity.INFO),
        ({"idle__trainer_frac": late(0.6, 0.1)}, "idle", Severity.INFO),
        (
            {"engine__kv_cache_usage": late(0.99, 0.5), "engine__requests_waiting": late(20.0, 0.0)},
            "kv_full",
            Severity.WARN,
        ),
        (
            {"engine__generation_tokens_per_second": late(5.0, 2000.0), "engine__requests_waiting": late(9.0, 0.0)},
            "generation_starved",
            Severity.WARN,
        ),
    ],
)
def test_engines_and_ranks(tmp_path: Path, series: dict[str, Array], code: str, severity: Severity) -> None:
    """What an engine or a rank does wrong is found; a full cache without waiting requests is no fault."""
    finding = found(judged(tmp_path / "sick", with_metrics(**series)), code)
    assert finding is not None
    assert (severity, 45) == (finding.severity, finding.first_step)
    calm = {name: np.full(NUM_STEPS, values[0]) for name, values in series.items()}
    assert found(judged(tmp_path / "calm", with_metrics(**calm)), code) is None


def test_a_full_cache_without_waiting_is_good_use(tmp_path: Path) -> None:
    """Usage alone says nothing."""
    records = with_metrics(engine__kv_cache_usage=late(0.99, 0.5), engine__requests_waiting=late(0.0, 0.0))
    assert found(judged(tmp_path, records), "kv_full") is None


def fault(kind: str, message: str, step: int | None = 59, **data: Any) -> EventRecord:
    return EventRecord(event="fault", time=START + 200, step=step, data={"kind": kind, "message": message, **data})


@pytest.mark.parametrize(
    ("kind", "message", "code", "severity"),
    [
        ("cuda_oom", "torch.OutOfMemoryError: CUDA out of memory.", "out_of_memory", Severity.ERROR),
        ("ray_oom", "1 Workers (tasks / actors) killed due to memory pressure (OOM)", "out_of_memory", Severity.ERROR),
        ("nccl_timeout", "Watchdog caught collective operation timeout", "hang", Severity.ERROR),
        ("disk_nearly_full", "ray/session_1 is over 95% full", "disk", Severity.WARN),
        ("disk_nearly_full", "ray/session_1 is full. Object creation will fail.", "disk", Severity.WARN),
        ("ray_oom", "Workers killed due to memory pressure.", "out_of_memory", Severity.ERROR),
        ("nccl_timeout", "Watchdog caught collective operation timeout.", "hang", Severity.ERROR),
        ("slurm_limit", "JOB 12 CANCELLED DUE TO TIME LIMIT.", "killed", Severity.WARN),
        ("slurm_limit", "JOB 12 CANCELLED DUE TO TIME LIMIT", "killed", Severity.WARN),
    ],
)
def test_a_fault_in_words(tmp_path: Path, kind: str, message: str, code: str, severity: Severity) -> None:
    """What a log says is one finding with its words, however often it says it."""
    records = [*step_records(healthy_metrics(NUM_STEPS)), fault(kind, message), fault(kind, message)]
    finding = found(judged(tmp_path, records, finished=False), code)
    assert finding is not None
    assert (severity, 59) == (finding.severity, finding.first_step)
    assert message.rstrip(".") in finding.message
    assert ".." not in finding.message


def test_ranks_that_reported_a_timeout_are_named(tmp_path: Path) -> None:
    """Those that did not are the suspects."""
    timeouts = [fault("nccl_timeout", "OpType=BROADCAST timed out", rank=rank) for rank in (3, 0)]
    finding = found(judged(tmp_path, [*step_records(healthy_metrics(9)), *timeouts], finished=False), "hang")
    assert finding is not None
    assert finding.message == "OpType=BROADCAST timed out. Ranks 0, 3 reported it."


def test_a_traceback_of_memory_is_told_by_its_kind(tmp_path: Path) -> None:
    """An out-of-memory traceback is one finding, not a crash beside it."""
    console = 'Traceback (most recent call last):\n  File "a.py", line 1\ntorch.OutOfMemoryError: CUDA out of memory.\n'
    verdict = judged(tmp_path, list(step_records(healthy_metrics(9))), finished=False, console=console)
    assert ["out_of_memory"] == [f.code for f in verdict.findings]
    assert str(verdict.findings[0].file).endswith("console.log")


def test_a_signal_after_the_end_is_teardown(tmp_path: Path) -> None:
    """What follows a finish is no fault."""
    records = [*step_records(healthy_metrics(NUM_STEPS)), fault("signal", "got signal: 15")]
    assert judged(tmp_path, records).findings == ()


def test_waiting_for_devices(tmp_path: Path) -> None:
    """A run without a step that waits for nodes says so."""
    waits = [fault("no_resources", "No available node types can fulfill resource request", step=None)]
    finding = found(judged(tmp_path, list(waits), finished=False), "waiting")
    assert finding is not None
    assert finding.title == "The run waits for devices"


def test_words_of_errors() -> None:
    """Each kind of memory has its own words."""
    assert kind_of_words("OSError: [Errno 28] No space left on device") == "disk_full"
    assert kind_of_words("ValueError: No available memory for the cache blocks.") == "kv_oom"
    assert kind_of_words("Training failed at step 12 with OutOfMemoryError: ") == "cuda_oom"
    assert kind_of_words("MemoryError") == "host_oom"
    assert kind_of_words("ValueError: a") == ""


def test_little_space_where_a_node_saves(tmp_path: Path) -> None:
    """The last word of each node counts: 1 GiB is too little, 100 are not."""
    sizes: list[dict[str, object]] = [{"storage/free_bytes/a": 2.0**30, "storage/free_bytes/b": 100 * 2.0**30}]
    events = [EventRecord(event="storage", time=START + 9, step=3, data=data) for data in sizes]
    finding = found(judged(tmp_path, [*step_records(healthy_metrics(9)), *events]), "disk")
    assert finding is not None
    assert finding.message == "a has 1 GiB left where it saves."


def test_slow_steps_are_those_that_longer_responses_do_not_explain(tmp_path: Path) -> None:
    """Three times the time for the same tokens is slow; for three times the tokens it is not. No phase lost most."""

    def slowed(tokens: float) -> list[Record]:
        records = step_records(healthy_metrics(NUM_STEPS) | {"tokens/generated": late(tokens, 1000.0)}, step_s=30)
        return [replace(r, seconds={k: v * (3 if r.step >= 45 else 1) for k, v in r.seconds.items()}) for r in records]

    finding = found(judged(tmp_path / "slow", slowed(1000.0)), "slow_steps")
    assert finding is not None
    assert (Severity.WARN, 45) == (finding.severity, finding.first_step)
    assert finding.message.endswith("3 times as long as before.")
    assert found(judged(tmp_path / "long", slowed(3000.0)), "slow_steps") is None


def test_evaluation_and_saving_are_no_slow_steps(tmp_path: Path) -> None:
    """A step with an evaluation takes longer, and is of another kind."""
    records: list[Record] = [
        replace(r, seconds={**r.seconds, "eval": 100.0, "total": r.seconds["total"] + 100})
        for r in step_records(healthy_metrics(NUM_STEPS), step_s=30)
        if r.step >= 30 or r.step % 2
    ]
    assert found(judged(tmp_path, records), "slow_steps") is None


def test_a_metric_that_vanishes(tmp_path: Path) -> None:
    """A loss in each of 45 steps and in none of the last 15 may be a NaN that was left out."""

    def cut(record: StepRecord) -> StepRecord:
        kept = {k: v for k, v in record.metrics.items() if record.step < 45 or k != "policy/loss"}
        return replace(record, metrics=kept)

    finding = found(judged(tmp_path, [cut(r) for r in step_records(healthy_metrics(NUM_STEPS))]), "vanished")
    assert finding is not None
    assert finding.message == "policy/loss is not logged from step 45 on."


def test_restarts_in_a_row(tmp_path: Path) -> None:
    """Five restarts within ten steps are a warning; a single one is nothing."""
    records = step_records(healthy_metrics(NUM_STEPS))
    resumes = [
        item
        for step in range(20, 26)
        for item in (EventRecord(event="resume", time=START + 60, step=step - 1), records[step])
    ]
    finding = found(judged(tmp_path / "row", [*records[:20], *resumes, *records[26:]]), "restarts")
    assert finding is not None
    assert (Severity.WARN, 20) == (finding.severity, finding.first_step)
    once = [*records[:20], *resumes[:2], *records[21:]]
    assert found(judged(tmp_path / "once", once), "restarts") is None


def test_a_clock_that_goes_back(tmp_path: Path) -> None:
    """It is said, since rates and silences rest on it."""
    records = [
        replace(r, time=r.time - (3600 if r.step >= 30 else 0)) for r in step_records(healthy_metrics(NUM_STEPS))
    ]
    finding = found(judged(tmp_path, list(records)), "restarts")
    assert finding is not None
    assert finding.message.startswith("The record of step 30 is older than the one before it;")


@pytest.mark.parametrize("first", [45, 10], ids=["to the end", "long over"])
@pytest.mark.parametrize(
    ("code", "metric", "bad", "usual"),
    [
        ("kv_full", "engine/kv_cache_usage", 0.99, 0.5),
        ("generation_starved", "engine/generation_tokens_per_second", 5.0, 2000.0),
    ],
)
def test_what_an_engine_got_over_is_a_note(
    tmp_path: Path, code: str, metric: str, bad: float, usual: float, first: int
) -> None:
    """Fifteen steps of it at the end are a warning; where thirty-five better ones follow, they are none."""
    steps = np.arange(NUM_STEPS)
    ill = (steps >= first) & (steps < first + 15)
    series = {metric: np.where(ill, bad, usual), "engine/requests_waiting": np.where(ill, 20.0, 0.0)}
    finding = found(judged(tmp_path, list(step_records(healthy_metrics(NUM_STEPS) | series))), code)
    assert finding is not None
    assert finding.severity is (Severity.WARN if first == 45 else Severity.INFO)


@pytest.mark.parametrize(
    ("steps", "severity"),
    [((57, 57, 57), Severity.INFO), ((55, 57, 58), Severity.WARN), ((5, 7, 8), Severity.INFO)],
    ids=["ranks of one step", "in three steps", "long over"],
)
def test_flushes_of_the_allocator_are_one_finding(tmp_path: Path, steps: tuple[int, ...], severity: Severity) -> None:
    """DeepSpeed's lines of memory pressure: a note, and a warning from three steps on; 12 flushes each are 36."""
    records = step_records(healthy_metrics(NUM_STEPS))
    flushes = [
        EventRecord(event="notice", time=START + 2 * step, step=step, data={"kind": "memory_pressure", "count": 12})
        for step in steps
    ]
    finding = found(judged(tmp_path, [*records, *flushes]), "memory_pressure")
    assert finding is not None
    assert (severity, steps[0], steps[-1]) == (finding.severity, finding.first_step, finding.last_step)
    assert finding.message == "The log says 3 times that the allocator flushed its cache, 36 flushes in all."


@pytest.mark.parametrize(
    ("steps", "severity"),
    [
        ((None,) * 4, Severity.WARN),
        ((None,) * 40 + (57,), Severity.WARN),
        ((None, 57, 57, 57), Severity.INFO),
        ((58,), Severity.INFO),
    ],
    ids=["no step is known", "before the first and in one", "once before the first and in one", "once"],
)
def test_flushes_without_a_step_count_one_by_one(
    tmp_path: Path, steps: tuple[int | None, ...], severity: Severity
) -> None:
    """Those of one step count once, as each rank may tell of them."""
    flushes = [
        EventRecord(event="notice", time=START, step=step, data={"kind": "memory_pressure", "count": 1})
        for step in steps
    ]
    finding = found(judged(tmp_path, [*step_records(healthy_metrics(NUM_STEPS)), *flushes]), "memory_pressure")
    assert finding is not None
    assert finding.severity is severity
    times, flushed = ("once", "1 flush") if len(steps) == 1 else (f"{len(steps)} times", f"{len(steps)} flushes")
    assert finding.message == f"The log says {times} that the allocator flushed its cache, {flushed} in all."


def test_a_long_step_names_the_phase_that_grew(tmp_path: Path) -> None:
    """A save of hours that takes seconds elsewhere is the reason; where no phase grew, none is named."""
    usual = {"generate": 900.0, "save": 5.0, "total": 905.0}
    records = [
        replace(r, time=START + 905.0 * (r.step + 1) + 9000.0 * (r.step >= 30), seconds=usual)
        for r in step_records(healthy_metrics(NUM_STEPS))
    ]
    records[30] = replace(records[30], seconds={"generate": 900.0, "save": 9005.0, "total": 9905.0})
    finding = found(judged(tmp_path / "save", list(records)), "slow_step")
    assert finding is not None
    assert finding.message.endswith("most of it in save.")
    records[30] = replace(records[30], seconds=usual)
    finding = found(judged(tmp_path / "nowhere", list(records)), "slow_step")
    assert finding is not None
    assert "most of it" not in finding.message
