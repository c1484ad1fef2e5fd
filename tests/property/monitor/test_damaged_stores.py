"""Stores cut off at every byte, with flipped bits, or made of noise: read in part, or refused in words."""

from __future__ import annotations

import sqlite3
import struct
import zlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from orz_monitor.errors import UnreadableRunError
from orz_monitor.stores import Store, open_store
from orz_monitor.stores.protobuf import WireError, fields

pytestmark = pytest.mark.property


def _events(path: Path) -> None:
    with path.open("wb") as file:
        writer = RecordWriter(file)
        for step in range(4):
            summary = Summary(value=[Summary.Value(tag="loss", simple_value=step)])
            writer.write(Event(wall_time=1.0, step=step, summary=summary).SerializeToString())


def _wandb(path: Path) -> None:
    data = bytearray(struct.pack("<4sHB", b":W&B", 0xBEE1, 0))
    for step in range(1, 4):
        item = b"\x0a\x04loss\x82\x01\x030.5"  # key = 1, value_json = 16
        history = b"\x0a" + bytes([len(item)]) + item + b"\x12\x02\x08" + bytes([step])
        record = b"\x12" + bytes([len(history)]) + history
        data += struct.pack("<IHB", zlib.crc32(b"\x01" + record), len(record), 1) + record
    path.write_bytes(data)


def _trackio(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA page_size=512")
        database.execute("CREATE TABLE metrics (timestamp, run_name, step, metrics)")
        for step in range(4):
            database.execute("INSERT INTO metrics VALUES ('2026-01-01', 'r', ?, '{\"loss\": 1}')", (step,))
        database.commit()


def _lines(path: Path) -> None:
    path.write_text("".join(f'{{"step": {step}, "loss": {step / 4}, "kl": "NaN"}}\n' for step in range(4)))


def _table(path: Path) -> None:
    path.write_text('step,"loss, mean",kl\n' + "".join(f'{step},"{step / 4}",nan\n' for step in range(4)))


MAKERS: dict[str, Callable[[Path], None]] = {
    "events.out.tfevents.1.host": _events,
    "run-a.wandb": _wandb,
    "project.db": _trackio,
    "metrics.jsonl": _lines,
    "progress.csv": _table,
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("stores")
    for name, make in MAKERS.items():
        make(folder / name)
    return {name: (folder / name).read_bytes() for name in MAKERS}


def attempt(path: Path) -> Store | None:
    """Read a store that may be damaged; whatever else than words comes out fails the test."""
    try:
        store = open_store(path)
    except UnreadableRunError as error:
        refused = error
    else:
        return _consistent(store)
    assert str(path) in refused.message
    assert refused.remedy
    return None


def _consistent(store: Store | None) -> Store | None:
    for column in store.columns if store is not None else ():
        assert (np.diff(column.steps) > 0).all()
        assert len(column.steps) == len(column.values) == len(column.times) > 0
    return store


@pytest.mark.parametrize("name", MAKERS)
def test_cut_off_at_every_byte(name: str, whole: dict[str, bytes], tmp_path: Path) -> None:
    """No cut is an exception, and what was read from a longer file is never less."""
    data, path, most = whole[name], tmp_path / name, 0
    step = 1 if len(data) < 2000 else 7
    for size in [*range(0, len(data), step), len(data)]:
        path.write_bytes(data[:size])
        store = attempt(path)
        count = sum(len(column.steps) for column in store.columns) if store is not None else 0
        if name != "project.db":  # which is read in whole pages or not at all
            assert count >= most, size
        most = max(count, most)
    assert most == {"run-a.wandb": 3, "metrics.jsonl": 8, "progress.csv": 8}.get(name, 4)


@pytest.mark.parametrize("name", ["events.out.tfevents.1.host", "run-a.wandb"])
def test_every_flipped_bit_is_noticed(name: str, whole: dict[str, bytes], tmp_path: Path) -> None:
    """Where there are checksums, no wrong value is taken for a right one."""
    path = tmp_path / name
    path.write_bytes(whole[name])
    good = attempt(path)
    assert good is not None
    expected = dict(zip(good.columns[0].steps.tolist(), good.columns[0].values.tolist(), strict=True))
    for bit in range(len(whole[name]) * 8):
        data = bytearray(whole[name])
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        store = attempt(path)
        if store is not None:
            assert store.problems, bit
            for column in store.columns:
                found = dict(zip(column.steps.tolist(), column.values.tolist(), strict=True))
                assert found.items() <= expected.items()


@pytest.mark.parametrize("name", MAKERS)
@given(data=st.data())
@settings(max_examples=60)
def test_noise_within(name: str, whole: dict[str, bytes], data: st.DataObject) -> None:
    """Bytes overwritten, put in or taken out anywhere."""
    original = whole[name]
    at = data.draw(st.integers(0, len(original)))
    noise = data.draw(st.binary(max_size=64))
    left_out = data.draw(st.integers(0, 64))
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(original[:at] + noise + original[at + left_out :])
        attempt(path)


@pytest.mark.parametrize("name", MAKERS)
@given(noise=st.binary(max_size=300))
@settings(max_examples=60)
def test_nothing_but_noise(name: str, noise: bytes) -> None:
    """A file of the right name with anything in it."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(noise)
        attempt(path)


@given(noise=st.binary(max_size=200))
def test_any_bytes_are_fields_or_an_error(noise: bytes) -> None:
    """Fields lie within the bytes, one after the other."""
    end = 0
    try:
        for found in fields(noise):
            assert end < found.end <= len(noise) or found.start == found.end
            assert found.start <= found.end
            end = found.end
    except WireError:
        pass


@given(record=st.binary(max_size=120))
def test_events_of_any_bytes_under_a_right_checksum(record: bytes) -> None:
    """What a checksum vouches for need not be an event."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "events.out.tfevents.1.host"
        with path.open("wb") as file:
            RecordWriter(file).write(record)
        attempt(path)
