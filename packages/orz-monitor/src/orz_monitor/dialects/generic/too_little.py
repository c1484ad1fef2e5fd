"""What was recognised in a log that is no trainer's, as far as can be told: steps with one known metric, mostly."""

from __future__ import annotations

from typing import Final

from orz_monitor.dialects.generic.evidence import FEWEST_LINES, Place, known_keys, rises
from orz_monitor.dialects.generic.named_lines import NamedLine
from orz_monitor.entries import FileFacts
from orz_monitor.metric_like import is_metric_like

_MOST_KEYS: Final = 100


class TooLittle:
    """Counts lines that say their step and hold a known name, and the names that came with rising steps."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, Place]] = {}
        self._num_lines = 0
        self._num_uncounted = 0

    def take(self, found: NamedLine) -> None:
        """Take a line; one without a step, an epoch or an episode says nothing."""
        if found.is_lost or (found.step is None and found.round is None):
            return
        keys = known_keys(found.found, found.segment.body)
        if not keys:
            return
        place = -1 if found.round is None else found.round, -1 if found.step is None else found.step
        self._num_lines += 1
        self._num_uncounted += not is_metric_like(found.segment.body)
        for key in keys:
            if key in self._seen or len(self._seen) < _MOST_KEYS:
                self._count(key, place)

    def tell(self, facts: FileFacts) -> None:
        """Tell what was seen, in a log that is not read; its lines are missed ones, however few pairs are on them."""
        facts.lone_keys = tuple(key for key, (count, _) in self._seen.items() if count >= FEWEST_LINES)
        if facts.lone_keys:
            facts.num_lone_lines = self._num_lines
            facts.num_missed_lines += self._num_uncounted

    def _count(self, key: str, place: Place) -> None:
        """Count in how many rising steps a name came; once they were enough, they stay so."""
        count, before = self._seen.get(key, (0, place))
        again = count >= FEWEST_LINES or place == before or rises(before, place)
        self._seen[key] = (count + (count == 0 or place != before) if again else 1, place)
