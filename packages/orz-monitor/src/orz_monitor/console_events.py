"""What our console log says of a run beyond the end of its records: a kill or a bad copy may have cut these."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar, Final

from orz_monitor.console import Traceback, last_traceback
from orz_monitor.dialects.orz_train import OrzTrain
from orz_monitor.log import Event, Log
from orz_monitor.reading import Reader
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


@dataclass(frozen=True, kw_only=True, slots=True)
class ConsoleWords:
    """What a console log says of a run.

    Attributes:
        path: the log.
        said: its events, in order.
        traceback: the exception at its end, or None.
    """

    path: Path
    said: Sequence[Event]
    traceback: Traceback | None

    def beyond(self, recorded: Sequence[EventRecord], last_step: int | None) -> list[EventRecord]:
        """Return the events that are missing at the end of the records, each with its place in its data.

        Args:
            recorded: the events of the records, in order.
            last_step: the last step that has a record, or None.
        """
        places = {(event.event, event.step): index for index, event in enumerate(self.said)}
        known = [places[event.event, event.step] for event in recorded if (event.event, event.step) in places]
        return [
            EventRecord(
                event=event.event,
                time=math.nan if event.time is None else event.time,
                step=event.step,
                data={**event.data, "file": str(self.path), "line": event.line},
            )
            for event in self.said[known[-1] + 1 if known else 0 :]
            if event.step is None or last_step is None or event.step >= last_step
        ]


class ConsoleEvents:
    """Takes the bytes of a console log in pieces of any size, and has the events in them.

    Args:
        path: the log.
    """

    def __init__(self, path: Path) -> None:
        self._reader = Reader(dialects=[_EventsOnly], path=path)

    def feed(self, data: bytes) -> None:
        """Take more of the log; a line counts once it has ended."""
        self._reader.feed(data)

    def close(self) -> None:
        """Take a last line that has not ended as it is."""
        self._reader.close()

    @property
    def said(self) -> list[Event]:
        """The events so far, in order."""
        return [entry for entry in self._reader.log.entries if isinstance(entry, Event) and entry.event in _NAMES]


def console_words(console: Path) -> ConsoleWords:
    """Read a console log as it is now.

    Raises:
        OSError: it can't be read.
    """
    events = ConsoleEvents(console)
    with console.open("rb") as file:
        for chunk in iter(partial(file.read, _CHUNK_BYTES), b""):
            events.feed(chunk)
    events.close()
    return ConsoleWords(path=console, said=events.said, traceback=last_traceback(console))
