"""A TensorBoard event file, without TensorBoard."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from orz_monitor.stores.crc32c import crc32c, masked, masked_of
from orz_monitor.table import Table

_LARGEST = 3.4028234663852886e38
"""The largest number that an event file holds."""


def write_events(table: Table, path: Path) -> None:
    """Write a table as scalars, in the order of the steps. They have the precision of f32, as all of TensorBoard's."""
    events = [_event(0.0, 0, b"\x1a\x0dbrain.Event:2"), *_scalars(table)]
    checksums = _checksums(events)
    with path.open("wb") as file:
        for event, checksum in zip(events, checksums, strict=True):
            length = struct.pack("<Q", len(event))
            file.write(length + struct.pack("<I", masked_of(length)) + event + struct.pack("<I", checksum))


def _scalars(table: Table) -> Iterator[bytes]:
    """Yield an event for each value."""
    steps = np.concatenate([column.steps for column in table.columns]) if table.columns else np.empty(0, np.int64)
    owner = np.repeat(np.arange(len(table.columns)), [len(column.steps) for column in table.columns])
    place = np.concatenate([np.arange(len(column.steps)) for column in table.columns]) if len(steps) else steps
    tags = [_field(1, column.key.encode()) for column in table.columns]
    for index in np.lexsort((owner, steps)).tolist():
        column, row = table.columns[owner[index]], int(place[index])
        value, time = float(column.values[row]), float(column.times[row])
        if abs(value) > _LARGEST:
            value = float("inf") if value > 0 else float("-inf")
        inside = tags[owner[index]] + b"\x15" + struct.pack("<f", value)
        yield _event(0.0 if np.isnan(time) else time, int(column.steps[row]), _field(5, _field(1, inside)))


def _event(time: float, step: int, rest: bytes) -> bytes:
    """Return an event's bytes: its time, its step, and what else it holds."""
    return b"\x09" + struct.pack("<d", time) + b"\x10" + _varint(step & 0xFFFF_FFFF_FFFF_FFFF) + rest


def _field(number: int, content: bytes) -> bytes:
    """Return a field that holds bytes."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    """Return an integer of variable length."""
    out = bytearray()
    while value > 0x7F:  # noqa: PLR2004 - seven bits a byte
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _checksums(events: list[bytes]) -> list[int]:
    """Return the masked checksum of each event; those of one length together."""
    out = [0] * len(events)
    by_length: dict[int, list[int]] = {}
    for index, event in enumerate(events):
        by_length.setdefault(len(event), []).append(index)
    for length, indices in by_length.items():
        rows = np.frombuffer(b"".join(events[index] for index in indices), dtype=np.uint8).reshape(-1, length)
        for index, checksum in zip(indices, masked(crc32c(rows)).tolist(), strict=True):
            out[index] = checksum
    return out
