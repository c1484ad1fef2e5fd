"""`orz monitor export`: values go out and come back, and bad input is told."""

from __future__ import annotations

import csv
import json
import math
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from orz_cli.main import main
from orz_monitor.loading import load_run
from orz_monitor.records import METRICS, StepRecord
from orz_monitor.stores import open_store
from orz_monitor.testing import healthy_metrics, step_records, write_run

pytestmark = pytest.mark.component


@pytest.fixture
def run(tmp_path: Path) -> Path:
    metrics = healthy_metrics(30)
    metrics["policy/kl_ref"][5:7] = [np.nan, -np.inf]
    metrics["policy/grad_norm"][8] = 1e300
    return write_run(tmp_path / "run", step_records(metrics))


def expected(run: Path) -> dict[str, list[tuple[int, float]]]:
    loaded = load_run(run)
    series = dict(loaded.metrics) | {f"seconds/{name}": phase for name, phase in loaded.seconds.items()}
    return {name: list(zip(s.steps.tolist(), s.values.tolist(), strict=True)) for name, s in series.items()}


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_every_value_comes_back(form: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Read again as any such file is read: all digits, NaN and infinities, and no value where there was none."""
    target = tmp_path / f"out.{form}"
    assert main(["monitor", "export", str(run), "--to", form, "-o", str(target)]) == 0
    assert capsys.readouterr().out == f"{target}\n"
    store = open_store(target)
    assert store is not None
    found = {c.key: list(zip(c.steps.tolist(), c.values.tolist(), strict=True)) for c in store.columns}
    assert repr(dict(sorted(found.items()))) == repr(dict(sorted(expected(run).items())))
    assert store.column("reward/mean").times.tolist() == load_run(run).times.values.tolist()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("form", ["csv", "jsonl", "tensorboard"])
def test_canonical_metrics_come_back_beside_keys_of_a_trainer(form: str, tmp_path: Path) -> None:
    """A log of verl has many keys that we have no name for, and which verl's dialect knows: ours stay ours."""
    values = {
        "actor/entropy": 0.5,
        "actor/ppo_kl": 0.001,
        "actor/grad_norm": 1.5,
        "actor/lr": 1e-6,
        "actor/pg_loss": 0.1,
    }
    values |= {"critic/score/mean": 0.25, "response_length/mean": 300, "response_length/clip_ratio": 0.01}
    values |= {
        f"critic/{name}/{end}": 0.75 for name in ("score", "rewards", "returns", "advantages") for end in ("max", "min")
    }
    log = tmp_path / "train.log"
    log.write_text(
        "".join(
            f"step:{step} - {' - '.join(f'{key}:{value}' for key, value in values.items())}\n" for step in range(30)
        )
    )
    out = tmp_path / {"tensorboard": "board"}.get(form, f"run.{form}")
    assert main(["monitor", "export", str(log), "--to", form, "-o", str(out)]) == 0
    before, after = load_run(log), load_run(out)
    assert {name for name in before.metrics if name in METRICS} <= set(after.metrics)
    assert after.metrics["policy/entropy"].values.tolist() == [0.5] * 30


def test_parquet_tells_nan_from_nothing(run: Path, tmp_path: Path) -> None:
    """Null where a metric was not logged, NaN where it was NaN."""
    target = tmp_path / "out.parquet"
    assert main(["monitor", "export", str(run), "--to", "parquet", "-o", str(target)]) == 0
    table = pq.read_table(target)
    kl = table.column("policy/kl_ref").to_pylist()
    assert math.isnan(kl[5])
    assert kl[6] == -math.inf
    accuracy = table.column("eval/held-out/accuracy").to_pylist()
    assert accuracy[8] is None
    assert accuracy[9] == dict(expected(run)["eval/held-out/accuracy"])[9]
    assert table.column("step").to_pylist() == list(range(30))


def test_tensorboard_reads_it(run: Path, tmp_path: Path) -> None:
    """TensorBoard's own reader finds every value as f32, at its step and time."""
    folder = tmp_path / "tb"
    for _ in range(2):  # a second export replaces the first
        assert main(["monitor", "export", str(run), "--to", "tensorboard", "-o", str(folder)]) == 0
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    accumulator.Reload()
    values = expected(run)
    assert sorted(accumulator.Tags()["scalars"]) == sorted(values)
    for tag, points in values.items():
        with np.errstate(over="ignore"):
            wanted = [(step, float(np.float32(value))) for step, value in points]
        assert repr([(event.step, event.value) for event in accumulator.Scalars(tag)]) == repr(wanted)
    times = [event.wall_time for event in accumulator.Scalars("reward/mean")]
    assert times == load_run(run).times.values.tolist()


def test_stores_are_exported_with_their_own_keys(tmp_path: Path) -> None:
    """From rows of another trainer to a table; what could not be read is told on stderr."""
    source = tmp_path / "train.jsonl"
    source.write_text('{"step": 1, "actor/kl": 0.5}\nbroken\n{"step": 2, "actor/kl": 0.25, "=cmd()": 1}\n')
    target = tmp_path / "out.csv"
    assert main(["monitor", "export", str(source), "--to", "csv", "-o", str(target)]) == 0
    rows = list(csv.reader(target.read_text().splitlines()))
    assert rows == [["step", "time", "'=cmd()", "actor/kl"], ["1", "", "", "0.5"], ["2", "", "1.0", "0.25"]]


def test_what_could_not_be_read_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The place and the reason, five of them at most."""
    source = tmp_path / "train.jsonl"
    source.write_text('{"step": 1, "x": 0.5}\n' + "broken\n" * 7)
    assert main(["monitor", "export", str(source), "--to", "jsonl", "-o", str(tmp_path / "out.jsonl")]) == 0
    err = capsys.readouterr().err
    assert f"{source}, line 2: not a JSON object" in err
    assert "and 2 places more" in err
    assert json.loads((tmp_path / "out.jsonl").read_text()) == {"step": 1, "x": 0.5}


def test_bad_places_and_bad_runs(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder for a file, a folder that is not there, other event files, no run: what and what next."""
    export = ["monitor", "export", str(run), "--to"]
    assert main([*export, "csv", "-o", str(tmp_path)]) == 2
    assert main([*export, "csv", "-o", str(tmp_path / "no" / "out.csv")]) == 2
    (tmp_path / "tb").mkdir()
    (tmp_path / "tb" / "events.out.tfevents.1.host").touch()
    assert main([*export, "tensorboard", "-o", str(tmp_path / "tb")]) == 2
    assert main(["monitor", "export", str(tmp_path / "missing"), "--to", "csv", "-o", str(tmp_path / "x.csv")]) == 3
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert err.count("  -> ") == 4
    assert not (tmp_path / "x.csv").exists()


def test_parquet_without_pyarrow(run: Path, tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The line that installs it, exit code 2, and no file."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert main(["monitor", "export", str(run), "--to", "parquet", "-o", str(tmp_path / "x.parquet")]) == 2
    assert 'python -m pip install "orz-monitor[parquet]"' in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [run]


def test_an_empty_table_is_a_table(tmp_path: Path) -> None:
    """A run of one step, for every format."""
    run = write_run(tmp_path / "run", [StepRecord(step=1, time=1.0, metrics={"reward/mean": 0.5})])
    for form in ("csv", "jsonl", "parquet", "tensorboard"):
        assert main(["monitor", "export", str(run), "--to", form, "-o", str(tmp_path / f"out-{form}")]) == 0
