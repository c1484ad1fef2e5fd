"""ROLL's objects of metrics, whose step is said behind them."""

from __future__ import annotations

from pathlib import Path

import pytest

from orz_monitor.dialects.roll import Roll
from orz_monitor.loading import load_run
from orz_monitor.log import Event, Log, Row
from orz_monitor.reading import read_chunks

pytestmark = pytest.mark.unit

PREFIX = "(RLVRPipeline pid=5) [2025-09-01 10:00:00] [rlvr_pipeline.py (512)] [INFO] [0 / 1][PID 5] "
METRICS = (
    PREFIX + '{"actor/pg_loss@sum": -0.0125, "actor/ratio_max@max": 1.5, "actor/grad_norm": NaN, '
    '"critic/score/mean": 0.5, "time/step_total": 93.5, "system/note": "text", "val_correct/aime/mean": 0.25}'
)
SAMPLES = PREFIX + '[{"prompt": "what is \\"actor/pg_loss\\"?", "response": {"actor/x": 5}}]'


def read(*lines: str) -> Log:
    log = read_chunks([("\n".join(lines) + "\n").encode()], dialects=[Roll])
    Roll().number(log)
    return log


def rows(log: Log) -> list[Row]:
    return [entry for entry in log.entries if isinstance(entry, Row)]


def test_an_object_is_of_the_step_that_is_finished_behind_it() -> None:
    """Samples that are printed beside it hold no metrics."""
    log = read(
        SAMPLES,
        METRICS,
        PREFIX + "pipeline step 12 finished",
        METRICS,
        PREFIX + "pipeline step 13 finished",
        PREFIX + "pipeline step 14 finished, reached max steps: 14",
        METRICS,
        PREFIX + "pipeline complete!",
    )
    assert [(row.step, row.line) for row in rows(log)] == [(12, 2), (13, 4), (14, 7)]
    found = dict(zip(rows(log)[0].keys, rows(log)[0].values, strict=True))
    assert str(found.pop("actor/grad_norm")) == "nan"
    assert found == {
        "actor/pg_loss@sum": -0.0125,
        "actor/ratio_max@max": 1.5,
        "critic/score/mean": 0.5,
        "time/step_total": 93.5,
        "val_correct/aime/mean": 0.25,
    }
    assert ("roll", "system/note") in log.texts
    events = [(entry.event, entry.step) for entry in log.entries if isinstance(entry, Event)]
    assert events == [("step_end", 12), ("step_end", 13), ("finish", None)]


def test_objects_that_are_printed_every_few_steps() -> None:
    """The step that is finished right behind an object is its own, not the last one before the next object."""
    ends = [PREFIX + f"pipeline step {step} finished" for step in range(4)]
    assert [row.step for row in rows(read(METRICS, ends[0], ends[1], METRICS, ends[2], ends[3]))] == [0, 2]


def test_torn_objects() -> None:
    """What is there of an object that was cut is read; deep nonsense is not."""
    found = rows(read('{"actor/pg_loss@sum": 0.5, "actor/lr": 1e-0', '{"actor/' * 5000, '"actor/": 5'))
    assert [dict(zip(row.keys, row.values, strict=True))["actor/pg_loss@sum"] for row in found] == [0.5]


def test_a_run_has_canonical_names(tmp_path: Path) -> None:
    """What follows the `@` says how parts were joined and is no part of the name."""
    path = tmp_path / "driver.log"
    path.write_text(f"{METRICS}\n{PREFIX}pipeline step 0 finished\n", encoding="utf-8")
    run = load_run(path)
    assert run.framework == "roll"
    assert run.metrics["policy/loss"].values.tolist() == [-0.0125]
    assert run.metrics["policy/loss"].raw_keys == ("actor/pg_loss@sum",)
    assert run.metrics["policy/ratio_max"].values.tolist() == [1.5]
    assert run.metrics["eval/aime/accuracy"].values.tolist() == [0.25]
    assert run.seconds["total"].values.tolist() == [93.5]
