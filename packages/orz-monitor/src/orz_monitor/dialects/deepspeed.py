"""DeepSpeed's engine, under whatever trainer: its steps, skipped ones, timers, and memory pressure.

It counts optimizer steps of one engine, which are not the steps of the run: its lines go to the step that the trainer
ends next, and its learning rate stays under its raw key. Where a log has no other steps, these are the run's.

An update that is skipped, since its gradients overflowed in half precision, is told twice: by a count that stands in a
line every so many steps, and by a line of its own. Where there is the count, it is taken.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar, Final

from orz_monitor.dialects.base import Dialect, Meaning
from orz_monitor.dialects.numbering import entries_of, lines_and_steps, number_by_trainer
from orz_monitor.dialects.skipped import add_up, undo_summing
from orz_monitor.ledger import Ledger
from orz_monitor.log import Log, Row
from orz_monitor.printable import one_line
from orz_monitor.transport.lines import Segment

_AXIS: Final = "optimizer"
_STEP: Final = re.compile(rb"step=(?P<step>\d{1,15}), skipped=")
_PAIR: Final = re.compile(rb"(?:^|[ ,/])(?P<key>[A-Za-z]\w{0,60})=(?P<value>\[[^\[\]]{0,500}\]|[^\s,/]{1,60})")
_TIMERS: Final = b"time (ms) | "
_BARE: Final = re.compile(rb"[-+]?(?:[1-9]\d{0,2}(?:,\d{3}){1,8}|\d{0,30})(?:\.\d{0,30})?(?:[eE][-+]?\d{1,4})?")
_NUMBER: Final = re.compile(rb"[-+]?(?:\d[\d.]{0,30}(?:[eE][-+]?\d{1,4})?|nan|inf)")
_OVERFLOW: Final = re.compile(
    rb"OVERFLOW! Rank (?P<rank>\d{1,6}) Skipping step\. Attempted loss scale: (?P<scale>[\d.]{1,40})"
)
_CRITIC: Final = "critic"
_OF_CRITIC: Final = "critic/"
"""What the keys of a critic's engine begin with, so that they are not taken for the policy's."""
_SKIPPED: Final = "skipped"
_OVERFLOWS: Final = "overflows"
_SO_FAR: Final = (_SKIPPED, f"{_OF_CRITIC}{_SKIPPED}")
_EACH: Final = (_OVERFLOWS, f"{_OF_CRITIC}{_OVERFLOWS}")
_RATES: Final[Mapping[str, Meaning]] = {"lr": Meaning("policy/lr"), f"{_OF_CRITIC}lr": Meaning("critic/lr")}
_FLUSHES: Final = re.compile(rb"(?P<count>\d{1,9}) pytorch allocator cache flushes since last step")


class DeepSpeed(Dialect):
    """The lines of DeepSpeed's engine."""

    name = "deepspeed"
    title = "DeepSpeed"
    is_trainer = False
    gates = (b"log_dist] ", _TIMERS, b"SamplesPerSec=", b"OVERFLOW! Rank ", b"allocator cache flushes")
    meanings: ClassVar[Mapping[str, Meaning]] = {
        "MaxMemAllocated": Meaning("memory/peak_bytes", rank=9),
        _SKIPPED: Meaning("policy/skipped_updates", rank=8),
        _OVERFLOWS: Meaning("policy/skipped_updates", rank=9, zero_elsewhere=True),
        f"{_OF_CRITIC}{_SKIPPED}": Meaning("critic/skipped_updates", rank=8),
        f"{_OF_CRITIC}{_OVERFLOWS}": Meaning("critic/skipped_updates", rank=9, zero_elsewhere=True),
    }

    def __init__(self) -> None:
        super().__init__()
        self._is_alone = False

    def read_segment(self, segment: Segment, number: int, log: Log) -> bool:
        """Read one segment."""
        body = segment.body
        if match := _OVERFLOW.search(body):
            self._add_overflow(int(match["rank"]), match["scale"].decode("ascii", "replace"), segment, number, log)
            return True
        if match := _FLUSHES.search(body):
            log.votes[self.name] += 1  # or its gates would be searched now and then only
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
        if _TIMERS in body:
            return self._add(_timers(body.partition(_TIMERS)[2]), None, segment, number, log)
        if match := _STEP.search(body):
            pairs = _of_role(_pairs(body[match.start() :]), segment)
            return self._add(pairs, int(match["step"]), segment, number, log)
        if b"SamplesPerSec=" in body:
            return self._add(_pairs(body), None, segment, number, log)
        return False

    def _add_overflow(self, rank: int, scale: str, segment: Segment, number: int, log: Log) -> None:
        """Add an update that was skipped: what happened, and, by one of the ranks, a number to count."""
        log.add_event(
            self.name,
            "skipped_update",
            line=number,
            time=segment.time,
            origin=segment.origin,
            data={"reason": "overflow in half precision", "rank": rank, "loss_scale": scale},
        )
        if rank == 0:
            self._add(_of_role([(_OVERFLOWS.encode(), b"1")], segment), None, segment, number, log)
        else:
            log.votes[self.name] += 1

    def _add(self, pairs: list[tuple[bytes, bytes]], step: int | None, segment: Segment, number: int, log: Log) -> bool:
        """Add a row."""
        row = log.add_pairs(
            self.name, pairs, line=number, step=step, axis=_AXIS, time=segment.time, origin=segment.origin
        )
        return row is not None

    def meaning(self, key: str) -> Meaning | None:
        """Return what a raw key is; a learning rate is the run's only where optimizer steps are the run's."""
        return _RATES.get(key) if self._is_alone and key in _RATES else super().meaning(key)

    def number(self, log: Log) -> None:
        """Give what has none the optimizer step before it; where nobody else has steps, these are the run's."""
        rows = [entry for entry in entries_of(log, self.name) if isinstance(entry, Row)]
        step = 0
        for row in rows:
            row.step = step = step if row.step is None else row.step
        undo_summing(rows, _SO_FAR)
        others = (entry for entry in log.entries if isinstance(entry, Row) and entry.dialect != self.name)
        self._is_alone = all(row.axis for row in others) and all(rows.axis for rows in log.bulk)
        if self._is_alone:
            for row in rows:
                row.axis = _AXIS if row.keys[0] in _EACH else ""  # an overflow makes no step

    def number_rows(self, ledger: Ledger) -> None:
        """Give lines the step that the trainer ends next, and let the last of a step hold all that it skipped."""
        lines, steps = lines_and_steps(ledger, self.name)
        if len(steps):
            number_by_trainer(ledger, lines, steps)
        add_up(ledger, self.name, (*_SO_FAR, *_EACH))


def _of_role(pairs: list[tuple[bytes, bytes]], segment: Segment) -> list[tuple[bytes, bytes]]:
    """Return pairs under the keys of a critic's engine where a critic printed them."""
    is_critic = _CRITIC in segment.origin.role.lower()
    return [(_OF_CRITIC.encode() + key, value) for key, value in pairs] if is_critic else pairs


def _timers(cells: bytes) -> list[tuple[bytes, bytes]]:
    """Return `name: milliseconds | name: milliseconds` as pairs with units; a name is all before the last colon.

    Example:
        >>> _timers(b"forward pass: 3.2 | step: 4, | bwd: nan")
        [(b'time/forward pass', b'3.2ms'), (b'time/step', b'4ms'), (b'time/bwd', b'nan')]
    """
    pairs: list[tuple[bytes, bytes]] = []
    for cell in filter(None, map(bytes.strip, cells.split(b"|"))):
        name, colon, value = cell.rpartition(b":")
        token = value.strip().rstrip(b",;")
        if not colon:  # no timer; it is listed among what is not read
            pairs.append((b"time/" + cell, b""))
        elif _BARE.fullmatch(token):
            pairs.append((b"time/" + name.strip(), token.replace(b",", b"") + b"ms"))
        else:  # with a unit of its own, not finite, or not to be read
            pairs.append((b"time/" + name.strip(), token))
    return pairs


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
