"""`.wandb` files, their messages made with protobuf from the published numbers of fields, read without it."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from orz_monitor.errors import UnreadableRunError
from orz_monitor.stores import open_store
from orz_monitor.stores.base import Store

pytestmark = pytest.mark.unit

INT, TEXT, MESSAGE = 3, 9, 11
MESSAGES: dict[str, list[tuple[str, int, int, str]]] = {
    "Item": [("key", 1, TEXT, ""), ("nested_key", 2, TEXT, "*"), ("value_json", 16, TEXT, "")],
    "Step": [("num", 1, INT, "")],
    "History": [("item", 1, MESSAGE, "*Item"), ("step", 2, MESSAGE, "Step")],
    "Config": [("update", 1, MESSAGE, "*Item")],
    "Output": [("output_type", 1, INT, ""), ("line", 3, TEXT, "")],
    "Run": [("run_id", 1, TEXT, ""), ("config", 4, MESSAGE, "Config"), ("display_name", 8, TEXT, "")],
    "Exit": [("exit_code", 1, INT, "")],
    "Record": [
        ("num", 1, INT, ""),
        ("history", 2, MESSAGE, "History"),
        ("output", 4, MESSAGE, "Output"),
        ("config", 5, MESSAGE, "Config"),
        ("output_raw", 13, MESSAGE, "Output"),
        ("run", 17, MESSAGE, "Run"),
        ("exit", 18, MESSAGE, "Exit"),
        ("uuid", 19, TEXT, ""),
    ],
}


def _record_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="wandb_test.proto", package="w", syntax="proto3")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind, of in fields:
            made = message.field.add(name=field, number=number, type=kind, label=3 if of.startswith("*") else 1)
            if kind == MESSAGE:
                made.type_name = f".w.{of.removeprefix('*')}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("w.Record"))


RECORD = _record_class()


def row(step: int, values: Mapping[str, object]) -> bytes:
    items = [{"key": key, "value_json": json.dumps(value)} for key, value in values.items()]
    return bytes(RECORD(num=step, history={"item": items, "step": {"num": step}}).SerializeToString())


def container(records: Sequence[bytes]) -> bytes:
    """Lay records out as the LevelDB log format says, with the checksums of zlib."""
    data = bytearray(struct.pack("<4sHB", b":W&B", 0xBEE1, 0))
    for record in records:
        left, first = record, True
        while first or left:
            room = 32768 - len(data) % 32768
            if room < 7:
                data += bytes(room)
                room = 32768
            part, left = left[: room - 7], left[room - 7 :]
            kind = (1 if first else 4) if not left else (2 if first else 3)
            data += struct.pack("<IHB", zlib.crc32(bytes([kind]) + part), len(part), kind) + part
            first = False
    return bytes(data)


def write(path: Path, records: Sequence[bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(container(records))
    return path


def read(path: Path) -> Store:
    store = open_store(path)
    assert store is not None
    return store


def test_history_config_console_and_exit(tmp_path: Path) -> None:
    """All that a run's records say."""
    records = [
        RECORD(
            run={
                "run_id": "abc",
                "display_name": "lively-1",
                "config": {"update": [{"key": "lr", "value_json": "1e-6"}]},
            }
        ),
        RECORD(config={"update": [{"nested_key": ["kl", "coef"], "value_json": "0.1"}]}),
        RECORD(output={"output_type": 1, "line": "step one"}),
        RECORD(output_raw={"line": "torn "}),
        RECORD(output_raw={"line": "line\nnext\n"}),
    ]
    rows = [
        row(1, {"loss": 0.5, "_step": 1, "_timestamp": 10.5, "_runtime": 3, "table": {"_type": "table"}, "note": "hi"}),
        row(2, {"loss": float("nan"), "kl": "Infinity", "eval": {"acc": 1}, "_timestamp": 11.5}),
    ]
    exits = [RECORD(exit={"exit_code": 1}).SerializeToString()]
    store = read(write(tmp_path / "run-abc.wandb", [*(r.SerializeToString() for r in records), *rows, *exits]))
    assert store.name == "lively-1"
    assert store.config == {"lr": 1e-6, "kl/coef": 0.1}
    assert store.console == ("step one", "torn line", "next")
    assert store.exit_code == 1
    assert store.keys == ("eval/acc", "kl", "loss")
    assert store.unread == ("note", "table/_type")
    assert store.column("loss").steps.tolist() == [1, 2]
    assert repr(store.column("loss").values.tolist()) == "[0.5, nan]"
    assert store.column("loss").times.tolist() == [10.5, 11.5]
    assert store.column("kl").values.tolist() == [float("inf")]
    assert store.problems == ()


def test_a_run_that_exited_well_or_has_not(tmp_path: Path) -> None:
    """An exit code of 0 is left out of its message, and still is one."""
    good = read(write(tmp_path / "run-a.wandb", [row(1, {"x": 1}), RECORD(exit={}).SerializeToString()]))
    assert good.exit_code == 0
    assert read(write(tmp_path / "run-b.wandb", [row(1, {"x": 1})])).exit_code is None


def test_records_over_many_blocks(tmp_path: Path) -> None:
    """Records of any size, so that every border of a block falls somewhere else."""
    records = [row(step, {"x": step / 8, "pad": "p" * (step * 7919 % 90_000)}) for step in range(40)]
    column = read(write(tmp_path / "run-a.wandb", records)).column("x")
    assert column.steps.tolist() == list(range(40))
    assert column.values.tolist() == [step / 8 for step in range(40)]


def test_after_damage_reading_goes_on_at_the_next_block(tmp_path: Path) -> None:
    """What is lost is told, what comes after is found."""
    path = write(tmp_path / "run-a.wandb", [row(step, {"x": 1.0, "pad": "p" * 5000}) for step in range(30)])
    data = bytearray(path.read_bytes())
    data[3000] ^= 4
    path.write_bytes(data)
    store = read(path)
    assert store.column("x").steps.tolist()[-1] == 29
    assert 20 <= len(store.column("x").steps) < 30
    assert "damaged" in store.problems[0].message


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "an empty .wandb file"),
        (b":W&", "cut off within its header"),
        (b"PK\x03\x04....", "not a .wandb file"),
        (b":W&B\xe1\xbe\x07", "version 7"),
    ],
)
def test_what_is_no_file_of_wandb(tmp_path: Path, data: bytes, message: str) -> None:
    """Empty while the run is young, torn, something else, or newer: each is said."""
    path = tmp_path / "run-a.wandb"
    path.write_bytes(data)
    with pytest.raises(UnreadableRunError, match=message):
        open_store(path)


def test_folders_of_wandb(tmp_path: Path) -> None:
    """The folder above `wandb/`, that folder, or a run's; several runs must be named."""
    write(tmp_path / "wandb" / "offline-run-20260101_000000-aaa" / "run-aaa.wandb", [row(1, {"x": 1})])
    for folder in (tmp_path, tmp_path / "wandb", tmp_path / "wandb" / "offline-run-20260101_000000-aaa"):
        assert read(folder).name == "aaa"
    write(tmp_path / "wandb" / "offline-run-20260102_000000-bbb" / "run-bbb.wandb", [row(1, {"x": 2})])
    with pytest.raises(UnreadableRunError, match="holds 2 runs: aaa, bbb"):
        open_store(tmp_path)
    assert read(Path(f"{tmp_path}#bbb")).column("x").values.tolist() == [2.0]
