"""Lists of a home-made log, such as `bleu=3 chrf=4`, which say neither a step nor a word of training.

Text of such a log looks like that, too, once: `AB=3, BC=4` of an answer. What is printed in three steps is a metric.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, TypeAlias

from orz_monitor.dialects.named_lines import NamedLine
from orz_monitor.transport.prefixes import Origin

_FEWEST_STEPS: Final = 3
_MOST_FORMS: Final = 1000
_MOST_WAITING: Final = 100
"""Lines of one form that are kept within its first three steps."""
_Form: TypeAlias = tuple[Origin, tuple[bytes, ...]]
"""Who printed a line, and the names on it."""


@dataclass(slots=True)
class _Waiting:
    """Lines of one form that did not come in enough steps yet, each with its step."""

    lines: list[tuple[NamedLine, int]] = field(default_factory=list)
    num_steps: int = 0
    last: int | None = None


class RecurringLists:
    """Holds lists until they have come in three steps."""

    def __init__(self) -> None:
        self._waiting: dict[_Form, _Waiting] = {}
        self._known: set[_Form] = set()

    def take(self, line: NamedLine, step: int) -> list[tuple[NamedLine, int]]:
        """Take a list, and return those that are metrics by now, each with its step: from the third step on all.

        Args:
            line: the list.
            step: in which it was printed.
        """
        form = line.segment.origin, tuple(one.key for one in line.found)
        if form in self._known:
            return [(line, step)]
        if form not in self._waiting and len(self._waiting) + len(self._known) >= _MOST_FORMS:
            return []
        waiting = self._waiting.setdefault(form, _Waiting())
        waiting.num_steps += step != waiting.last
        waiting.last = step
        if len(waiting.lines) < _MOST_WAITING:
            waiting.lines.append((line, step))
        if waiting.num_steps < _FEWEST_STEPS:
            return []
        self._known.add(form)
        return self._waiting.pop(form).lines
