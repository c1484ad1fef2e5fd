"""A log as bytes, to hand it from one process to another: rows of one shape as columns, not one by one."""

from __future__ import annotations

import copy
import pickle
from array import array
from collections import defaultdict
from dataclasses import dataclass
from typing import IO

from orz_monitor.bulk import together
from orz_monitor.log import Entry, Log, Row
from orz_monitor.transport.prefixes import Origin


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Block:
    """Rows of lines with the same keys, M of K values.

    Attributes:
        dialect: of all of them.
        keys: raw keys, [K].
        axis: of all of them.
        at: places in the log's entries, [M].
        lines: line numbers, [M].
        files: indices of files, [M].
        offsets: where on their lines they begin, [M].
        steps: steps, [M].
        times: times, [M].
        origins: processes, [M].
        values: f64, [M, K], as bytes.
    """

    dialect: str
    keys: tuple[str, ...]
    axis: str
    at: list[int]
    lines: list[int]
    files: list[int]
    offsets: list[int]
    steps: list[int | None]
    times: list[float | None]
    origins: list[Origin]
    values: bytes


def pack(log: Log, file: IO[bytes]) -> None:
    """Write a log, for `unpack`."""
    shapes: dict[tuple[str, tuple[str, ...], str], list[tuple[int, Row]]] = defaultdict(list)
    others: list[tuple[int, Entry]] = []
    for index, entry in enumerate(log.entries):
        if isinstance(entry, Row) and (entry.bar, entry.count, entry.num_unnamed) == (None, 1, 0):
            shapes[entry.dialect, entry.keys, entry.axis].append((index, entry))
        else:
            others.append((index, entry))
    blocks = [
        _Block(
            dialect=dialect,
            keys=keys,
            axis=axis,
            at=[index for index, _ in rows],
            lines=[row.line for _, row in rows],
            files=[row.file for _, row in rows],
            offsets=[row.offset for _, row in rows],
            steps=[row.step for _, row in rows],
            times=[row.time for _, row in rows],
            origins=[row.origin for _, row in rows],
            values=b"".join([row.values for _, row in rows]),
        )
        for (dialect, keys, axis), rows in shapes.items()
    ]
    bare = copy.copy(log)
    bare.entries, bare.bulk = [], together(log.bulk)
    pickle.dump((bare, len(log.entries), others, blocks), file, protocol=pickle.HIGHEST_PROTOCOL)


def unpack(file: IO[bytes]) -> Log | None:
    """Read the log that `pack` has written, None where it is torn; only from a process of our own."""
    log: Log
    try:
        log, num_entries, others, blocks = pickle.load(file)  # noqa: S301  from our own child process
    except (EOFError, pickle.UnpicklingError):
        return None
    placed: dict[int, Entry] = dict(others)
    for block in blocks:
        placed |= _rows(block)
    log.entries = [placed[index] for index in range(num_entries)]
    return log


def _rows(block: _Block) -> dict[int, Entry]:
    """Return the rows of a block by their places."""
    size = len(block.keys) * array("d").itemsize
    columns = zip(
        block.at, block.lines, block.files, block.offsets, block.steps, block.times, block.origins, strict=True
    )
    return {
        index: Row(
            dialect=block.dialect,
            keys=block.keys,
            values=array("d", block.values[at * size : (at + 1) * size]),
            line=line,
            file=file,
            offset=offset,
            step=step,
            axis=block.axis,
            time=time,
            origin=origin,
        )
        for at, (index, line, file, offset, step, time, origin) in enumerate(columns)
    }
