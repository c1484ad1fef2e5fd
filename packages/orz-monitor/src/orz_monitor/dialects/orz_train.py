"""Our own `console.log`: ORZ's shapes and key names, without ORZ's divisions.

In a run folder `metrics.jsonl` alone gives the values. A console log on its own is told by its first line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

from orz_monitor.dialects.base import Meaning
from orz_monitor.dialects.orz import Orz
from orz_monitor.log import Entry

FIRST_LINE: Final = b"orz-train "
"""What the first line of our console log begins with."""


class OrzTrain(Orz):
    """The console of orz-train: every number is a true mean, and steps are numbered from 1."""

    name = "orz-train"
    title = "orz-train"
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

    def _undo_division(self, entries: Sequence[Entry]) -> None:
        """Leave the critic's loss as it is."""
