"""ms-swift: TRL's dictionaries with `'global_step/max_steps': '5/3766'`, on the console and in `logging.jsonl`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar, Final

from orz_monitor.dialects.bars import clock_s
from orz_monitor.dialects.base import Meaning
from orz_monitor.dialects.dicts import Found, dicts_of
from orz_monitor.dialects.trl import Trl, last_frame
from orz_monitor.log import Log
from orz_monitor.transport.lines import Line, Segment

_DICTIONARY: Final = re.compile(rb"\{['\"][A-Za-z][\w/ .()@+-]{0,100}['\"]: ")
_COUNTER: Final = re.compile(rb"['\"]global_step/max_steps['\"]: ?['\"](?P<done>\d{1,12})/(?P<total>\d{1,12})['\"]")


class MsSwift(Trl):
    """The console and the `logging.jsonl` of ms-swift."""

    name = "ms-swift"
    title = "ms-swift"
    gates = (b"global_step/max_steps",)
    meanings: ClassVar[Mapping[str, Meaning]] = {
        **Trl.meanings,
        "memory(GiB)": Meaning("memory/peak_bytes", scale=2.0**30),
        "elapsed_time_per_iteration": Meaning("seconds/total", rank=1),
        "train_speed(s/it)": Meaning("seconds/total", rank=2),
    }

    def read(self, line: Line, log: Log) -> bool:
        """Read the dictionaries of a line that say their step."""
        understood, frame = False, None
        for segment in line.segments:
            end = 0
            for found in dicts_of(segment.body, _DICTIONARY):
                frame, end = last_frame(segment.body[end : found.start]) or frame, found.end
                if counter := _COUNTER.search(segment.body, found.start, found.end):
                    log.offset = segment.offset + found.start
                    understood = self._add_counted(found, counter, frame, segment, line.number, log) or understood
            frame = last_frame(segment.body[end:]) or frame
        return understood

    def _add_counted(
        self,
        found: Found,
        counter: re.Match[bytes],
        frame: re.Match[bytes] | None,
        segment: Segment,
        number: int,
        log: Log,
    ) -> bool:
        """Add a dictionary that says its step; the bar before it has a clock."""
        pairs = [pair for pair in found.pairs if pair[0] != b"global_step/max_steps"]
        done = int(counter["done"])
        axis = "eval" if any(key.startswith(b"eval_") for key, _ in pairs) else ""
        log.add_tick(
            self.name,
            axis or self.bar_of_steps,
            done,
            int(counter["total"]),
            line=number,
            time=segment.time,
            elapsed_s=clock_s(frame["elapsed"]) if frame is not None and frame["done"] == counter["done"] else None,
        )
        row = log.add_pairs(
            self.name,
            pairs,
            line=number,
            step=done,
            axis=axis,
            time=segment.time,
            origin=segment.origin,
        )
        return row is not None
