"""DeepSpeed's engine, under whatever trainer: its steps, skipped ones, timers, and memory pressure.

It counts optimizer steps of one engine, which are not the steps of the run: its rows have an axis of their own, and
what they say of updates stays under its raw keys. Where a log has no other steps, these are the run's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

from orz_monitor.dialects.base import Dialect, Meaning
from orz_monitor.log import Entry, Log, Row
from orz_monitor.printable import one_line
from orz_monitor.transport.lines import Segment
from orz_monitor.transport.prefixes import Origin

_AXIS: Final = "optimizer"
_STEP: Final = re.compile(rb"step=(?P<step>\d{1,15}), skipped=")
_PAIR: Final = re.compile(rb"(?:^|[ ,/])(?P<key>[A-Za-z]\w{0,60})=(?P<value>\[[^\[\]]{0,500}\]|[^\s,/]{1,60})")
_TIMER: Final = re.compile(rb"\| (?P<what>[\w.]{1,80}): (?P<milliseconds>\d[\d.]{0,20})")
_NUMBER: Final = re.compile(rb"[-+]?(?:\d[\d.]{0,30}(?:[eE][-+]?\d{1,4})?|nan|inf)")
_OVERFLOW: Final = re.compile(
    rb"OVERFLOW! Rank (?P<rank>\d{1,6}) Skipping step\. Attempted loss scale: (?P<scale>[\d.]{1,40})"
)
_CRITIC: Final = "critic"
_OF_CRITIC: Final = "critic/"
"""What the keys of a critic's engine begin with, so that they are not taken for the policy's."""
_SKIPPED: Final = "skipped"
_UPDATES: Final[Mapping[str, Meaning]] = {
    "lr": Meaning("policy/lr"),
    _SKIPPED: Meaning("policy/skipped_updates"),
    f"{_OF_CRITIC}lr": Meaning("critic/lr"),
    f"{_OF_CRITIC}{_SKIPPED}": Meaning("critic/skipped_updates"),
}
_FLUSHES: Final = re.compile(rb"(?P<count>\d{1,9}) pytorch allocator cache flushes since last step")


class DeepSpeed(Dialect):
    """The lines of DeepSpeed's engine."""

    name = "deepspeed"
    title = "DeepSpeed"
    is_trainer = False
    gates = (b"log_dist] [Rank ", b"OVERFLOW! Rank ", b"allocator cache flushes")
    meanings: ClassVar[Mapping[str, Meaning]] = {
        "MaxMemAllocated": Meaning("memory/peak_bytes", rank=9),
    }

    def __init__(self) -> None:
        super().__init__()
        self._is_alone = False

    def read_segment(self, segment: Segment, number: int, log: Log) -> bool:
        """Read one segment."""
        body = segment.body
        if match := _OVERFLOW.search(body):
            log.votes[self.name] += 1  # or its gates would be searched now and then only
            log.add_event(
                self.name,
                "skipped_update",
                line=number,
                time=segment.time,
                origin=segment.origin,
                data={
                    "reason": "overflow in half precision",
                    "rank": int(match["rank"]),
                    "loss_scale": match["scale"].decode("ascii", "replace"),
                },
            )
            return True
        if match := _FLUSHES.search(body):
            log.votes[self.name] += 1
            log.add_event(
                self.name,
                "notice",
                line=number,
                time=segment.time,
                origin=segment.origin,
                data={
                    "kind": "memory_pressure",
                    "count": int(match["count"]),
                    "message": one_line(segment.text.strip(), 500),
                },
            )
            return True
        if b"time (ms) | " in body:
            pairs = [(b"time/" + found["what"], found["milliseconds"] + b"ms") for found in _TIMER.finditer(body)]
            return self._add(pairs, None, segment, number, log)
        if match := _STEP.search(body):
            pairs = _pairs(body[match.start() :])
            if _CRITIC in segment.origin.role.lower():
                pairs = [(_OF_CRITIC.encode() + key, value) for key, value in pairs]
            return self._add(pairs, int(match["step"]), segment, number, log)
        if b"SamplesPerSec=" in body:
            return self._add(_pairs(body), None, segment, number, log)
        return False

    def _add(self, pairs: list[tuple[bytes, bytes]], step: int | None, segment: Segment, number: int, log: Log) -> bool:
        """Add a row."""
        row = log.add_pairs(
            self.name, pairs, line=number, step=step, axis=_AXIS, time=segment.time, origin=segment.origin
        )
        return row is not None

    def meaning(self, key: str) -> Meaning | None:
        """Return what a raw key is; what is said of updates has a meaning only where optimizer steps are the run's."""
        return _UPDATES.get(key) if self._is_alone and key in _UPDATES else super().meaning(key)

    def number(self, entries: Sequence[Entry], log: Log) -> None:
        """Give timers the optimizer step before them; where nobody else has steps, these are the run's."""
        rows = [entry for entry in entries if isinstance(entry, Row)]
        step = 0
        for row in rows:
            row.step = step = step if row.step is None else row.step
        others = (entry for entry in log.entries if isinstance(entry, Row) and entry.dialect != self.name)
        self._is_alone = not log.bulk and all(row.axis for row in others)
        if self._is_alone:
            _undo_summing(rows)
            for row in rows:
                row.axis = ""


def _undo_summing(rows: Sequence[Row]) -> None:
    """Count skipped updates from the row before of the same engine on, and not from the beginning."""
    before: dict[tuple[Origin, str], float] = {}
    for row in rows:
        for at, key in enumerate(row.keys):
            if key.removeprefix(_OF_CRITIC) == _SKIPPED:
                so_far = row.values[at]
                last = before.get((row.origin, key), 0.0)
                row.values[at] = so_far - last if so_far >= last else so_far  # a restart counts from 0
                before[row.origin, key] = so_far


def _pairs(body: bytes) -> list[tuple[bytes, bytes]]:
    """Return the numbers of `key=value` items; those of a list are numbered unless there is one."""
    pairs: list[tuple[bytes, bytes]] = []
    for match in _PAIR.finditer(body):
        key, value = match["key"], match["value"]
        if key == b"step":
            continue
        if value.startswith(b"["):
            numbers = _NUMBER.findall(value)
            pairs += [(key if len(numbers) == 1 else key + b"/%d" % i, token) for i, token in enumerate(numbers)]
        else:
            pairs.append((key, value.removesuffix(b"GB") + b"GiB" if value.endswith(b"GB") else value))
    return pairs
