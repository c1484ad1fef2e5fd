"""Our own `console.log`: ORZ's shapes and key names, without ORZ's divisions.

In a run folder `metrics.jsonl` alone gives the values. A console log on its own is told by its first line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

from orz_monitor.dialects.base import Meaning
from orz_monitor.dialects.orz.dialect import Orz
from orz_monitor.log import Entry, Log
from orz_monitor.printable import one_line
from orz_monitor.records import EVENTS
from orz_monitor.transport.lines import Segment

_HAPPENED: Final = re.compile(rb"(?P<name>[a-z_]{3,40})(?: step=(?P<step>\d{1,15}))?(?= \w{1,40}=|$)")
_MESSAGE: Final = re.compile(rb" message=(?P<quote>['\"]?)(?P<words>(?:(?!(?P=quote)(?: \w{1,40}=|$)).){1,1000})")


class OrzTrain(Orz):
    """The console of orz-train: every number is a true mean, and steps are numbered from 1."""

    name = "orz-train"
    title = "orz-train"
    gates: ClassVar[tuple[bytes, ...]] = (b"time cost: ", b"orz_train.", b"Episode [")
    meanings: ClassVar[Mapping[str, Meaning]] = {
        **Orz.meanings,
        "return": Meaning("return/mean"),
        "bar/ret": Meaning("return/mean", rank=2),
        "avg_raw_rewards": Meaning("return/mean", rank=1),
        "time/Actor model training": Meaning("seconds/train_policy"),
        "time/Evaluation": Meaning("seconds/eval"),
        "time/Save checkpoint": Meaning("seconds/save"),
    }
    missing: ClassVar[Mapping[str, str]] = {}
    first_step = 1
    eval_lag = 1

    def _undo_division(self, entries: Sequence[Entry]) -> None:
        """Leave the critic's loss as it is."""

    def _happened(self, segment: Segment, number: int, log: Log) -> bool:
        """Read the events that the console shows as `checkpoint_saved step=2 path=...`."""
        match = _HAPPENED.match(segment.body)
        name = match["name"].decode() if match is not None else ""
        if match is None or name not in EVENTS:
            return super()._happened(segment, number, log)
        step = int(match["step"]) if match["step"] else None
        said = _MESSAGE.search(segment.body) if name == "error" else None
        data = {"message": one_line(said["words"].decode(errors="replace"), 300)} if said is not None else None
        log.add_event(self.name, name, line=number, step=step, time=segment.time, data=data)
        return True
