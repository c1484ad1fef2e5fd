"""Lines that are kept until it is known whether they are a trainer's, up to a bound."""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterator
from typing import Final

from orz_monitor.dialects.generic.keys import may_tell
from orz_monitor.dialects.generic.named_lines import NamedLine
from orz_monitor.metric_like import is_metric_like
from orz_monitor.transport.lines import Line
from orz_monitor.transport.prefixes import Origin

_MOST: Final = 1000
_MOST_SKIPPED: Final = 16
_PLACE: Final = re.compile(rb"(?i)(?<![a-z])(?:global_?)?(?:steps?|it|iter|iteration|update|epoch|episode)\W{0,3}\d")


class HeldLines:
    """The first lines that may be a trainer's: so many with evidence, and as many without.

    Of those beyond the bound, the last one that said where its process is is kept as well: metrics below belong to it.

    Attributes:
        lines: what is held, each with whether it is evidence.
        num_passed: how many lines came beyond the bound that don't look like metrics; who reads counts the others.
    """

    def __init__(self) -> None:
        self.lines: list[tuple[NamedLine, bool]] = []
        self.num_passed = 0
        self._num: Counter[bool] = Counter()
        self._places: dict[Origin, tuple[NamedLine, bool]] = {}
        self._skipped: deque[Line] = deque()

    def can_skip(self, line: Line) -> bool:
        """Tell whether a line need not be taken apart: there is no room for it, and no metric in it."""
        if self._num[False] < _MOST or may_tell(line.raw):
            return False
        if _PLACE.search(line.raw):
            self._skipped.append(line)
            if len(self._skipped) > _MOST_SKIPPED:
                self.num_passed += not is_metric_like(self._skipped.popleft().raw)
        return True

    def skipped(self) -> Iterator[Line]:
        """Yield, once, the last lines that were skipped and may say where their processes are."""
        while self._skipped:
            yield self._skipped.popleft()

    def take(self, found: NamedLine, raw: bytes, *, is_evidence: bool) -> bool:
        """Keep a line, if there is room; returns whether it was kept."""
        origin, has_place = found.segment.origin, found.step is not None or found.round is not None
        if self._num[is_evidence] >= _MOST:
            is_passed = not is_metric_like(raw)
            self.num_passed += is_passed
            if has_place and (origin in self._places or len(self._places) < _MOST):
                self._places[origin] = found, is_passed
            return False
        place = self._places.pop(origin, None)
        if place is not None and is_evidence and found.step is None:
            self.num_passed -= place[1]
            self.lines.append((place[0], False))
        self._num[is_evidence] += 1
        self.lines.append((found, is_evidence))
        return True
