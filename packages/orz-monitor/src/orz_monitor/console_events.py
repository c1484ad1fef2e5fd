"""What our console log says of a run beyond the end of its records: a kill or a bad copy may have cut these."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar, Final

from orz_monitor.dialects.orz_train import OrzTrain
from orz_monitor.log import Event, Log
from orz_monitor.reading import read_chunks
from orz_monitor.records import EventRecord
from orz_monitor.transport.lines import Segment

_NAMES: Final = ("start", "resume", "finish", "interrupted", "error", "checkpoint_saved")
_CHUNK_BYTES: Final = 1 << 20


class _EventsOnly(OrzTrain):
    """The console of orz-train without its numbers."""

    bulk: ClassVar[bytes] = b""
    gates: ClassVar[tuple[bytes, ...]] = tuple(b" - " + name.encode() for name in _NAMES)

    def read_segment(self, segment: Segment, number: int, log: Log) -> bool:
        """Read an event; what a reward function prints is none."""
        return segment.place.startswith("orz_train.") and self._happened(segment, number, log)


def events_beyond(console: Path, recorded: Sequence[EventRecord], last_step: int | None) -> list[EventRecord]:
    """Return the events of a console log that are missing at the end of the records, each with its place in its data.

    Args:
        console: the console log.
        recorded: the events of the records, in order.
        last_step: the last step that has a record, or None.

    Raises:
        OSError: the log can't be read.
    """
    with console.open("rb") as file:
        log = read_chunks(iter(partial(file.read, _CHUNK_BYTES), b""), dialects=[_EventsOnly], path=console)
    said = [entry for entry in log.entries if isinstance(entry, Event) and entry.event in _NAMES]
    places = {(event.event, event.step): index for index, event in enumerate(said)}
    known = [places[event.event, event.step] for event in recorded if (event.event, event.step) in places]
    return [
        EventRecord(
            event=event.event,
            time=math.nan if event.time is None else event.time,
            step=event.step,
            data={**event.data, "file": str(console), "line": event.line},
        )
        for event in said[known[-1] + 1 if known else 0 :]
        if event.step is None or last_step is None or event.step >= last_step
    ]
