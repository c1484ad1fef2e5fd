"""How runs die: tracebacks, memory, NCCL's watchdog, signals, Slurm's limits, Ray's actors, full disks.

A fault is an event; whether the run died of it is decided by `verdict`, once it is known what came after.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from orz_monitor.dialects.base import Dialect
from orz_monitor.dialects.fault_shapes import GATES, KINDS, STOPS, WAITS, kind_of
from orz_monitor.dialects.tracebacks import IGNORING, NO_END, OPENING, Open, Tracebacks
from orz_monitor.log import Entry, Event, Log
from orz_monitor.printable import one_line
from orz_monitor.transport.lines import Line, Segment

_NEARLY_FULL: Final = re.compile(
    rb"(?P<path>\S{1,200}) is over (?P<share>\d{1,3})% full, available space: (?P<free>\d{1,20})"
)
ONE_SYMBOL: Final = b"!" * 64
"""What a model writes whose weights or logits are NaN: in many vocabularies the first token is an exclamation mark."""
_MOST_OF_A_KIND: Final = 200


class Crashes(Dialect):
    """Faults, whatever the trainer."""

    name = "crashes"
    title = "faults"
    is_trainer = False
    always = True
    gates = (OPENING, *IGNORING, *GATES, b"% full, available", ONE_SYMBOL)
    longest_block = 1_000_000

    def __init__(self) -> None:
        super().__init__()
        self._tracebacks = Tracebacks()
        self._counts: Counter[str] = Counter()

    def read(self, line: Line, log: Log) -> bool:
        """Read a line that may tell of a fault."""
        if ONE_SYMBOL in line.raw:
            self._add(log, "notice", Segment(body=ONE_SYMBOL), line.number, "one_symbol")
        if len(line.raw) > (1 << 14):
            return False  # samples of text, not a message
        understood = False
        for segment in line.segments:
            body = segment.body
            if self._tracebacks.ignore(segment, line.number):
                understood = True
            elif self._tracebacks.begin(segment, line.number):
                self.more_open = understood = True
            elif b"% full" in body and (match := _NEARLY_FULL.search(body)):
                found = {
                    "path": one_line(match["path"].decode("utf-8", "replace"), 500),
                    "share": int(match["share"]) / 100,
                    "free_bytes": int(match["free"]),
                }
                self._add(log, "notice", segment, line.number, "disk_nearly_full", found)
                understood = True
            elif kind := kind_of(body):
                self._add(log, "fault", segment, line.number, kind)
                understood = True
        return understood

    def more(self, line: Line, log: Log) -> bool:
        """Look for the exception at the end of a traceback."""
        begun = self._tracebacks.open
        belonged, exception = self._tracebacks.take(line)
        self.more_open = self._tracebacks.open is not None
        if begun is not None and exception is not None:
            self._end(begun, exception, begun.line if exception.body == NO_END else line.number, log)
        return belonged

    def cut(self, log: Log) -> None:
        """Note a traceback that is longer than any is read."""
        self.finish(log)

    def finish(self, log: Log) -> None:
        """Note a traceback in which the log ends."""
        begun = self._tracebacks.open
        if begun is not None:
            self._end(begun, self._tracebacks.end(), begun.line, log)
        self.more_open = False

    def number(self, log: Log) -> None:
        """Faults carry the last step that was done before them, which stitching knows."""

    def _end(self, begun: Open, exception: Segment, number: int, log: Log) -> None:
        """Add the exception of a traceback; one that Python ignores is no fault."""
        event, kind = "fault", kind_of(exception.body) or "traceback"
        if begun.ignored:
            event, kind = "notice", "ignored"
        self._add(log, event, exception, number, kind, {"traceback_line": begun.line})

    def _add(
        self, log: Log, event: str, segment: Segment, number: int, kind: str, data: Mapping[str, object] | None = None
    ) -> None:
        """Add a fault; of one that is repeated without end the first ones are kept, and the last."""
        self._counts[kind] += 1
        if self._counts[kind] > _MOST_OF_A_KIND:
            last = next((entry for entry in reversed(log.entries[-50:]) if _is_of(entry, kind)), None)
            if last is not None:
                log.entries.remove(last)
        log.add_event(
            self.name,
            event,
            line=number,
            time=segment.time,
            origin=segment.origin,
            data={
                "kind": kind,
                "message": one_line(segment.text.strip(), 500),
                "count": self._counts[kind],
                **({"rank": segment.origin.rank} if segment.origin.rank is not None else {}),
                **(data or {}),
            },
        )


def verdict(events: Sequence[Event], num_before: Sequence[int], steps: NDArray[np.int64]) -> Event | None:
    """Return the fault that ended the run: the first cause among those that no further step follows, or None.

    Rows of the step that was printed before a fault are no further step. What comes after a finish is the noise of
    taking things down.

    Args:
        events: in order, [M].
        num_before: how many rows stand before each event, [M].
        steps: the step of each row, in order.
    """
    last_finish = max((i for i, event in enumerate(events) if event.event == "finish"), default=-1)
    after = steps[num_before[last_finish] :] if last_finish >= 0 else steps
    if last_finish >= 0 and not len(after):
        return None
    others = np.flatnonzero(after != after[-1]) if len(after) else after
    last_begins = len(steps) - len(after) + (int(others[-1]) + 1 if len(others) else 0)
    ends = [
        event
        for event, before in zip(events[last_finish + 1 :], num_before[last_finish + 1 :], strict=True)
        if (before > last_begins or not len(after)) and event.event == "fault" and event.data.get("kind") not in WAITS
    ]
    order = list(KINDS)
    return min(ends, key=lambda end: order.index(str(end.data["kind"])), default=None)


def ended_by(fault: Event) -> str:
    """Return the event name of a fault that ended a run: `interrupted` from outside, else `error`."""
    return "interrupted" if fault.data["kind"] in STOPS else "error"


def _is_of(entry: Entry, kind: str) -> bool:
    """Tell whether an entry is a fault or notice of a kind."""
    return isinstance(entry, Event) and entry.dialect == Crashes.name and entry.data.get("kind") == kind
