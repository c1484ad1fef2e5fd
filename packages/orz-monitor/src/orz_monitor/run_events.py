"""What happened in a run: the events of its log as records, each with its place and its step."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from orz_monitor.dialects.crashes import ended_by
from orz_monitor.endings import end_of
from orz_monitor.ledger import Ledger
from orz_monitor.log import Event, Log
from orz_monitor.records import EventRecord


def run_events(events: Sequence[Event], ledger: Ledger, log: Log) -> tuple[EventRecord, ...]:
    """Return what happened as records, with the place of each in its data; how the run ended comes last."""
    trained = np.flatnonzero(ledger.axis == 0)
    num_before = [ledger.num_before(event) for event in events]
    last = np.searchsorted(trained, [*num_before, len(ledger)]) - 1
    steps = [int(ledger.step[trained[at]]) if at >= 0 else None for at in last.tolist()]
    found = [
        _record(event, event.event, event.step if event.step is not None else step, log)
        for event, step in zip(events, steps, strict=False)
    ]
    end = end_of(events, ledger, log.files)
    if end is not None:
        found.append(_record(end, ended_by(end), steps[-1], log))
    return tuple(found)


def _record(event: Event, name: str, step: int | None, log: Log) -> EventRecord:
    """Return an event as a record."""
    place: dict[str, object] = {"line": event.line} if event.line else {}
    if event.line and event.file < len(log.files):
        place["file"] = str(log.files[event.file].path)
    return EventRecord(
        event=name,
        time=event.time if event.time is not None else math.nan,
        step=step,
        data={**event.data, **place},
    )
