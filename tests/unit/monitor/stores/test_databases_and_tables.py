"""MLflow, trackio, JSON lines and CSV: values, steps, times, restarts, and what is damaged."""

from __future__ import annotations

import json
import math
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from orz_monitor.errors import UnreadableRunError
from orz_monitor.loading import load_run
from orz_monitor.records import StepRecord, dumps
from orz_monitor.stores import open_store
from orz_monitor.stores.base import Store
from orz_monitor.testing import write_run

pytestmark = pytest.mark.unit


def read(path: Path) -> Store:
    store = open_store(path)
    assert store is not None
    return store


def points(store: Store, key: str) -> list[tuple[int, float]]:
    column = store.column(key)
    return list(zip(column.steps.tolist(), column.values.tolist(), strict=True))


def lines(path: Path, *texts: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{text}\n" for text in texts))
    return path


def test_mlflow_files(tmp_path: Path) -> None:
    """A metric a file, slashes as folders; a torn line is told, a step that goes back is a restart."""
    run = tmp_path / "mlruns" / "0" / "abc"
    lines(run / "meta.yaml", "run_id: abc")
    lines(run / "metrics" / "actor" / "loss", "1000 0.5 1", "2000 nan 2", "3000 0.25 2", "4000 -inf 3")
    (run / "metrics" / "reward").write_text("1000 1.0 0\n2000 2.0 1\n3000 3.")
    (run / "params").mkdir()
    (run / "params" / "lr").write_text("1e-6")
    for folder in (tmp_path / "mlruns", tmp_path / "mlruns" / "0", run):
        store = read(folder)
        assert store.keys == ("actor/loss", "reward")
        assert points(store, "actor/loss") == [(1, 0.5), (2, 0.25), (3, -math.inf)]
        assert store.column("actor/loss").times.tolist() == [1.0, 3.0, 4.0]
        assert points(store, "reward") == [(0, 1.0), (1, 2.0)]
        assert store.config == {"lr": "1e-6"}
        assert ["line 3"] == [problem.place for problem in store.problems]


def test_one_of_several_runs_is_named_as_the_error_says(tmp_path: Path) -> None:
    """A run of MLflow is called by its folder, with a slash in it."""
    for run in ("abc", "xyz"):
        lines(tmp_path / "mlruns" / "0" / run / "meta.yaml", f"run_id: {run}")
        lines(tmp_path / "mlruns" / "0" / run / "metrics" / "loss", "1000 0.5 1")
    with pytest.raises(UnreadableRunError, match="holds 2 runs: 0/abc, 0/xyz") as caught:
        load_run(tmp_path / "mlruns")
    named = caught.value.remedy.partition(": ")[2].strip("'")
    assert named.startswith(f"{tmp_path / 'mlruns'}#0/")
    assert load_run(named).metrics


def mlflow_database(path: Path, runs: int = 1) -> Path:
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE metrics (key, value, timestamp, run_uuid, step, is_nan)")
        database.execute("CREATE TABLE params (key, value, run_uuid)")
        database.execute("INSERT INTO params VALUES ('lr', '0.1', 'run0')")
        for run in range(runs):
            values = [("loss", 0.5, 0, 1), ("loss", 0.0, 1, 2), ("loss", 1.7976931348623157e308, 0, 3)]
            for key, value, is_nan, step in values:
                database.execute(
                    "INSERT INTO metrics VALUES (?, ?, ?, ?, ?, ?)",
                    (key, value, 1000 * step, f"run{run}", step, is_nan),
                )
        database.commit()
    return path


def test_mlflow_database(tmp_path: Path) -> None:
    """NaN has a column of its own, infinity is the largest number."""
    store = read(mlflow_database(tmp_path / "mlflow.db"))
    assert repr(points(store, "loss")) == "[(1, 0.5), (2, nan), (3, inf)]"
    assert store.config == {"lr": "0.1"}
    with pytest.raises(UnreadableRunError, match="holds 2 runs: run0, run1"):
        open_store(mlflow_database(tmp_path / "two.db", runs=2))
    assert read(Path(f"{tmp_path / 'two.db'}#run1")).name == "run1"


def test_trackio_while_it_is_written(tmp_path: Path) -> None:
    """Rows in the write-ahead log of a live writer count, and the files stay as they were."""
    path = tmp_path / "project.db"
    with closing(sqlite3.connect(path)) as writer:
        writer.execute("PRAGMA journal_mode=WAL")
        writer.execute("CREATE TABLE metrics (id INTEGER PRIMARY KEY, timestamp, run_name, step, metrics)")
        writer.execute("CREATE TABLE configs (run_name, config)")
        writer.execute("INSERT INTO configs VALUES ('r', '{\"lr\": 0.1}')")
        rows = [(0, {"loss": 0.5, "train": {"kl": "NaN"}}), (1, {"loss": 0.25})]
        for step, values in rows:
            moment = f"2026-01-01T00:00:0{step}+00:00"
            writer.execute("INSERT INTO metrics VALUES (NULL, ?, 'r', ?, ?)", (moment, step, json.dumps(values)))
        writer.execute("INSERT INTO metrics VALUES (NULL, 'x', 'r', 2, '{broken')")
        writer.commit()
        store = read(path)
    assert points(store, "loss") == [(0, 0.5), (1, 0.25)]
    assert store.column("loss").times.tolist() == [1767225600.0, 1767225601.0]
    assert repr(points(store, "train/kl")) == "[(0, nan)]"
    assert store.config == {"lr": 0.1}
    assert ["row 3 of metrics"] == [problem.place for problem in store.problems]


def test_a_damaged_database_is_said(tmp_path: Path) -> None:
    """Pages that were overwritten; a database of something else is no store."""
    path = mlflow_database(tmp_path / "mlflow.db")
    data = bytearray(path.read_bytes())
    data[100:] = b"\xff" * (len(data) - 100)
    path.write_bytes(data)
    with pytest.raises(UnreadableRunError, match="can't be read as a SQLite database"):
        open_store(path)
    with closing(sqlite3.connect(tmp_path / "other.db")) as database:
        database.execute("CREATE TABLE things (a)")
    assert open_store(tmp_path / "other.db") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            '{"step": 1, "time": 5.0, "loss/mean": 0.5}\n{"step": 2, "time": 6.0, "loss/mean": 0.25}\n',
            {"loss/mean": [(1, 0.5), (2, 0.25)]},
            id="prime-rl",
        ),
        pytest.param(
            '{"step": 1, "data": {"actor/lr": 1e-6, "training/global_step": 1}}\n',
            {"actor/lr": [(1, 1e-6)]},
            id="verl",
        ),
        pytest.param(
            '{"_step": 3, "_runtime": 4, "_timestamp": 1.5, "kl": "NaN", "r": "Infinity"}\n',
            {"kl": [(3, math.nan)], "r": [(3, math.inf)]},
            id="exported from W&B",
        ),
        pytest.param(
            '{"loss": 0.5, "global_step/max_steps": "5/3766", "percentage": "0.13%"}\n',
            {"loss": [(5, 0.5)], "percentage": [(5, 0.13 * 0.01)]},
            id="ms-swift",
        ),
        pytest.param(
            '{"step": 1, "x": NaN}\n{"step": 2, "x": -Infinity}\n', {"x": [(1, math.nan), (2, -math.inf)]}, id="json"
        ),
        pytest.param('{"x": 1}\n{"x": 2}\n', {"x": [(0, 1.0), (1, 2.0)]}, id="no step"),
        pytest.param(
            '{"step": 1, "x": 1}\n{"step": 2, "x": 2}\n{"step": 1, "x": 3}\n', {"x": [(1, 3.0)]}, id="restart"
        ),
    ],
)
def test_rows_of_json(tmp_path: Path, text: str, expected: dict[str, list[tuple[int, float]]]) -> None:
    """What trainers write, each in its own words."""
    path = tmp_path / "metrics.jsonl"
    path.write_text(text)
    for place in (path, tmp_path):
        store = read(place)
        assert repr({key: points(store, key) for key in store.keys}) == repr(expected)


def test_rows_that_are_none_are_told(tmp_path: Path) -> None:
    """Damage, a list, a torn end."""
    path = lines(tmp_path / "m.jsonl", '{"step": 1, "x": 1}', "garbage", "[1, 2]", '{"step": 2, "x": 2}')
    with path.open("a") as file:
        file.write('{"step": 3, "x"')
    store = read(path)
    assert points(store, "x") == [(1, 1.0), (2, 2.0)]
    assert ["line 2", "line 3", "line 5"] == [problem.place for problem in store.problems]
    assert "cut off" in store.problems[-1].message


def test_the_state_of_a_transformers_trainer(tmp_path: Path) -> None:
    """The history in a checkpoint's trainer_state.json."""
    history = [{"step": 10, "loss": 0.5, "epoch": 0.1}, {"step": 20, "loss": 0.25, "epoch": 0.2}]
    (tmp_path / "trainer_state.json").write_text(json.dumps({"global_step": 20, "log_history": history}))
    store = read(tmp_path / "trainer_state.json")
    assert points(store, "loss") == [(10, 0.5), (20, 0.25)]
    (tmp_path / "trainer_state.json").write_text("{")
    with pytest.raises(UnreadableRunError, match="log_history"):
        open_store(tmp_path / "trainer_state.json")


def test_what_is_no_store(tmp_path: Path) -> None:
    """Our own records, logs written as JSON, text, an empty folder, nothing at all."""
    run = write_run(tmp_path / "run", [StepRecord(step=1, time=1.0, metrics={"reward/mean": 1.0})])
    (tmp_path / "ours.jsonl").write_text(dumps(StepRecord(step=1, time=1.0, metrics={})) + "\n")
    lines(tmp_path / "log.jsonl", '{"timestamp": 1, "level": "INFO", "message": "Step 1 | Loss 0.5"}')
    lines(tmp_path / "train.log", "step:1 - loss:0.5")
    lines(tmp_path / "words.csv", "name,place", "a,b")
    (tmp_path / "empty").mkdir()
    for name in ("ours.jsonl", "log.jsonl", "train.log", "words.csv", "empty", "missing", "missing#x"):
        assert open_store(tmp_path / name) is None, name
    assert open_store(run) is None


def test_tables(tmp_path: Path) -> None:
    """progress.csv of a folder: empty cells are steps without a value, a torn row is left out."""
    path = tmp_path / "progress.csv"
    path.write_text("time/total_timesteps,train/loss,rollout/ep_rew_mean\n2048,0.5,\n4096,nan,1.5\n8192,0.1")
    store = read(tmp_path)
    assert repr(points(store, "train/loss")) == "[(2048, 0.5), (4096, nan)]"
    assert points(store, "rollout/ep_rew_mean") == [(4096, 1.5)]
    assert "line 4" in str(store.problems[0])


def test_llama_factory_calls_the_step_current_steps(tmp_path: Path) -> None:
    """Its trainer_log.jsonl has a row every so many of them."""
    store = read(
        lines(tmp_path / "t.jsonl", '{"current_steps": 10, "loss": 0.5}', '{"current_steps": 20, "loss": 0.25}')
    )
    assert points(store, "loss") == [(10, 0.5), (20, 0.25)]
    assert not store.problems


@pytest.mark.parametrize("between", [",", ";", "\t"])
def test_what_is_between_cells_is_told_by_the_names(tmp_path: Path, between: str) -> None:
    """Semicolons as spreadsheets write them, tabs, and commas within quotes, which are none of these."""
    rows = ["step", '"loss, mean"', "reward"], ["1", "0.5", "0.25"], ["2", "0.125", "0.75"]
    store = read(lines(tmp_path / "table.csv", *(between.join(row) for row in rows)))
    assert points(store, "loss, mean") == [(1, 0.5), (2, 0.125)]
    assert points(store, "reward") == [(1, 0.25), (2, 0.75)]


def test_charts_exported_from_wandb(tmp_path: Path) -> None:
    """Columns are `run - metric`, with extremes beside them; of several runs one is named."""
    path = tmp_path / "chart.csv"
    path.write_text('"Step","a-1 - loss","a-1 - loss__MIN","a-1 - loss__MAX"\n"1","0.5","0.5","0.5"\n"2","0.25","",""')
    store = read(path)
    assert (store.name, store.keys) == ("a-1", ("loss",))
    assert points(store, "loss") == [(1, 0.5), (2, 0.25)]
    path.write_text('"Step","a - loss","b - loss"\n"1","0.5","0.75"\n')
    with pytest.raises(UnreadableRunError, match="holds 2 runs: a, b"):
        open_store(path)
    assert points(read(Path(f"{path}#b")), "loss") == [(1, 0.75)]


def test_keys_without_end_are_left_out_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What hostile input invents fills no memory; the keys that came first are whole."""
    monkeypatch.setattr("orz_monitor.stores.base.MOST_KEYS", 2)
    path = lines(tmp_path / "m.jsonl", *(json.dumps({"step": i, "a": i, "b": i, f"k{i}": i}) for i in range(4)))
    store = read(path)
    assert len(store.keys) == 2
    assert sum(len(column.steps) for column in store.columns) + int(store.problems[0].message.split()[0]) == 12
    assert "beyond the first 2" in store.problems[0].message
