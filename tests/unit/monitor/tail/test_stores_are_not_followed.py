"""Stores of other tools: `tail` says what it found and what reads it, and does not wait for a log."""

from __future__ import annotations

import json
import shutil
import sqlite3
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from orz_cli.main import main
from orz_monitor.errors import UnreadableRunError
from orz_monitor.loading import load_run
from orz_monitor.tail.source import Source

pytestmark = pytest.mark.unit


def event_file(folder: Path) -> Path:
    """Three steps of one scalar, by TensorBoard's own writer."""
    path = folder / "events.out.tfevents.1700000000.host.1.0"
    folder.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for step in range(3):
            summary = Summary(value=[Summary.Value(tag="actor/pg_loss", simple_value=0.5)])
            RecordWriter(file).write(Event(wall_time=1.7e9 + step, step=step, summary=summary).SerializeToString())
    return path


def wandb_run(folder: Path) -> Path:
    """An offline run as wandb leaves it, its own logs and what was printed included; two steps of one metric."""
    run = folder / "offline-run-20260101_000000-abc"
    for name in ("logs/debug.log", "logs/debug-internal.log", "files/requirements.txt"):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text("2026-01-01 00:00:00,000 INFO MainThread:1 [wandb_init.py:init():100] starting\n")
    data = struct.pack("<4sHB", b":W&B", 0xBEE1, 0)
    for step in range(2):
        items = b"".join(
            _field(1, _field(1, key.encode()) + _field(16, json.dumps(value).encode()))
            for key, value in {"actor/pg_loss": 0.5, "_step": step}.items()
        )
        record = _field(2, items)
        data += struct.pack("<IHB", zlib.crc32(b"\x01" + record), len(record), 1) + record
    (run / "run-abc.wandb").write_bytes(data)
    return run / "run-abc.wandb"


def _field(number: int, content: bytes) -> bytes:
    """A field of protobuf that holds bytes, fewer than 128."""
    key = number << 3 | 2
    return bytes([key] if key < 128 else [key & 127 | 128, key >> 7]) + bytes([len(content)]) + content


def mlflow_runs(folder: Path) -> Path:
    """One metric of a file store."""
    run = folder / "0" / "abc"
    (run / "metrics").mkdir(parents=True)
    (run / "meta.yaml").write_text("run_id: abc\n")
    (run / "metrics" / "loss").write_text("1000 0.5 0\n2000 0.25 1\n")
    return folder


def mlflow_database(path: Path) -> Path:
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE metrics (key, value, timestamp, run_uuid, step, is_nan)")
        database.execute("INSERT INTO metrics VALUES ('loss', 0.5, 1000, 'run0', 1, 0)")
        database.execute("CREATE TABLE params (key, value, run_uuid)")
        database.commit()
    return path


STORES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "a folder of event files": (lambda tmp: event_file(tmp / "tb" / "train").parent.parent, "TensorBoard event files"),
    "an event file": (event_file, "a TensorBoard event file"),
    "a folder of wandb": (lambda tmp: wandb_run(tmp / "wandb").parent.parent, "offline runs of W&B"),
    "a run's folder of wandb": (lambda tmp: wandb_run(tmp).parent, "offline runs of W&B"),
    "a .wandb file": (wandb_run, "an offline run of W&B"),
    "mlruns": (lambda tmp: mlflow_runs(tmp / "mlruns"), "runs of MLflow"),
    "a run in mlruns": (lambda tmp: Path(f"{mlflow_runs(tmp / 'mlruns')}#0/abc"), "runs of MLflow"),
    "a database": (lambda tmp: mlflow_database(tmp / "mlflow.db"), "a database of MLflow"),
}


@pytest.mark.parametrize("name", STORES)
def test_a_store_is_an_error_that_says_what_it_is(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 3, as for all that can't be read; what was found, and the commands that read it."""
    make, what = STORES[name]
    path = make(tmp_path)
    assert 3 == main(["monitor", "tail", "--plain", str(path)])
    said = capsys.readouterr()
    assert f"{path}: {what}, not followed line by line" in " ".join(said.err.split())
    for command in ("report", "check", "tail --once", "watch"):
        assert command in said.err


@pytest.mark.parametrize("name", STORES)
def test_what_is_refused_can_be_read_as_the_error_says(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--once` shows its steps."""
    path = STORES[name][0](tmp_path)
    assert load_run(path).metrics
    assert 0 == main(["monitor", "tail", "--once", "--plain", str(path)])
    assert "step 1 " in capsys.readouterr().out


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[Source]:
    """Follow a folder that is still empty."""
    with Source(tmp_path) as source:
        assert not source.poll()
        yield source


def test_a_store_that_appears_is_refused_too(waiting: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without anything is waited for, and looked at again after a while."""
    event_file(tmp_path)
    assert not waiting.poll(), "it is not looked for at every poll"
    monkeypatch.setattr("time.monotonic", lambda: float("inf"))
    with pytest.raises(UnreadableRunError, match="TensorBoard event files, not followed"):
        waiting.poll()


def test_a_log_beside_a_store_is_followed(waiting: Source, tmp_path: Path) -> None:
    """It may have metrics later; until then it is said what else could be read."""
    event_file(tmp_path / "tensorboard")
    log = tmp_path / "train.log"
    log.write_text("starting\n")
    while waiting.poll() or waiting.is_stale:
        waiting.refresh()
    waiting.poll()
    expected = (
        f"no metric in 1 line of train.log yet; orz monitor report reads the TensorBoard event files in {tmp_path}"
    )
    assert expected == waiting.waiting_for_metrics
    with log.open("a") as file:
        file.write("step:1 - actor/pg_loss:0.5 - actor/entropy:0.4\nstep:2 - actor/pg_loss:0.4 - actor/entropy:0.4\n")
    waiting.poll()
    run = waiting.refresh()
    assert run is not None
    assert [1, 2] == run.steps.tolist()
    assert 0 == waiting.num_lines_in_vain


def test_what_wandb_says_of_itself_is_no_log_of_a_run(waiting: Source, tmp_path: Path) -> None:
    """Its debug logs are none; what the run printed, kept beside them, is one; so is another debug.log."""
    run = wandb_run(tmp_path).parent
    printed = run / "files" / "output.log"
    printed.write_text("step:1 - actor/pg_loss:0.5\n")
    waiting.poll()
    assert printed == waiting.path
    shutil.rmtree(run)
    other = tmp_path / "logs" / "debug.log"
    other.parent.mkdir()
    other.write_text("step:1 - actor/pg_loss:0.5\n")
    with Source(tmp_path) as source:
        source.poll()
        assert other == source.path
