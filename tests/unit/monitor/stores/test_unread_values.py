"""Values that are no numbers: their keys are listed, so that nothing is lost without a word."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from orz_monitor.loading import load_run
from orz_monitor.stores import open_store
from orz_monitor.stores.base import Store

pytestmark = pytest.mark.unit

ROW = {"step": 1, "time": "2026-01-01T00:00:00", "loss": 0.5, "note": "warm-up", "ok": False, "null": None, "none": ""}
NESTED = {"gen": {"text": "abc", "tokens": 7}, "hist": [1, 2, 3], "speed": "8 parrots", "late": "n/a"}


def read(path: Path) -> Store:
    store = open_store(path)
    assert store is not None
    return store


def test_rows_of_json(tmp_path: Path) -> None:
    """Text, truth values and lists, of nested objects, too; no step, no time, nothing that is empty or read later."""
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ({**ROW, **NESTED}, {"step": 2, "late": 3.0})))
    store = read(path)
    assert ("gen/tokens", "late", "loss") == store.keys
    assert ("gen/text", "hist", "note", "ok", "speed") == store.unread
    assert store.unread == load_run(path).coverage.unread


def test_rows_within_rows(tmp_path: Path) -> None:
    """The file logger of verl; what ms-swift calls the step is no text."""
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1, "data": {"actor/lr": 1e-6, "run": "x"}}\n')
    assert ("run",) == read(path).unread
    path.write_text('{"loss": 0.5, "global_step/max_steps": "5/3766", "remaining_time": "soon"}\n')
    assert ("remaining_time",) == read(path).unread


def test_keys_without_end_take_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What hostile input invents is forgotten beyond the most that is kept."""
    monkeypatch.setattr("orz_monitor.stores.base.MOST_KEYS", 2)
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps({"step": step, "a": 1, f"k{step}": "x"}) + "\n" for step in range(9)))
    assert ("k0", "k1") == read(path).unread


def test_a_table(tmp_path: Path) -> None:
    """A column with a number in it is one of numbers, and empty cells are no text."""
    path = tmp_path / "progress.csv"
    path.write_text("step,loss,tok,note,empty\n1,0.5,many,warm-up,\n2,0.25,7,-,\n")
    assert ("note",) == read(path).unread


def test_trackio(tmp_path: Path) -> None:
    """Its metrics are rows of JSON."""
    path = tmp_path / "project.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE metrics (id INTEGER PRIMARY KEY, timestamp, run_name, step, metrics)")
        database.execute("INSERT INTO metrics VALUES (NULL, 1, 'r', 1, ?)", (json.dumps({"loss": 0.5, **NESTED}),))
        database.commit()
    assert ("gen/text", "hist", "late", "speed") == read(path).unread


def test_mlflow(tmp_path: Path) -> None:
    """A value that is no number, in its database and in its files."""
    path = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE metrics (key, value, timestamp, run_uuid, step, is_nan)")
        for key, value in (("loss", 0.5), ("loss", "x"), ("note", "warm-up")):
            database.execute("INSERT INTO metrics VALUES (?, ?, 1000, 'r', 1, 0)", (key, value))
        database.commit()
    assert ("note",) == read(path).unread
    run = tmp_path / "mlruns" / "0" / "abc"
    (run / "metrics" / "actor").mkdir(parents=True)
    (run / "meta.yaml").touch()
    (run / "metrics" / "loss").write_text("1000 0.5 1\n2000 x 2\n")
    (run / "metrics" / "actor" / "note").write_text("1000 warm-up 1\n")
    assert ("actor/note",) == read(run).unread
