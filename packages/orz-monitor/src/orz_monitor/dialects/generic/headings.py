"""Headings: lines with nothing but an epoch or an episode on them, to which what stands below belongs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from orz_monitor.dialects.generic.evidence import evidence_of
from orz_monitor.dialects.generic.keys import ROUNDS, plain
from orz_monitor.dialects.generic.named_lines import NamedLine
from orz_monitor.dialects.generic.named_numbers import NamedNumber
from orz_monitor.log import Row
from orz_monitor.transport.prefixes import Origin

_HEADING: Final = re.compile(rb"[^A-Za-z]{0,80}(?:epoch|episode)[^A-Za-z]{1,80}(?:of[^A-Za-z]{1,80})?", re.IGNORECASE)
_OF: Final = re.compile(rb"(?:epoch|episode)[^A-Za-z\d]{1,80}\d{1,15}\s{0,8}(?:/|of)\s{0,8}\d", re.IGNORECASE)
"""A heading that says how many there are: `Epoch: 1/5`."""
_LONGEST_BLOCK: Final = 16
"""Lines with one number each, below a heading."""
_FEWEST_IN_BLOCK: Final = 3
"""Known metrics; fewer stand below headings of other programs, too."""


def is_heading(found: NamedLine) -> bool:
    """Tell whether a line says an epoch or an episode, and nothing else: `=== Epoch 1/5 ===`."""
    return found.round is not None and found.step is None and _HEADING.fullmatch(found.segment.body) is not None


def is_row_of_heading(row: Row) -> bool:
    """Tell whether a row has nothing but an epoch or an episode."""
    return all(plain(key) in ROUNDS for key in row.keys)


def numbers_of(found: NamedLine) -> list[NamedNumber]:
    """Return the numbers of a line; of a heading without how many there are, as in `Epoch 1 of 5`."""
    if not is_heading(found):
        return found.found
    return [one for one in found.found if plain(one.key.decode("utf-8", "replace")) in ROUNDS]


class Headings:
    """The last heading of each process.

    `epoch: 3` may be a setting, and counts as a heading only when a later one follows.
    """

    def __init__(self) -> None:
        self._rounds: dict[Origin, int] = {}
        self._perhaps: dict[Origin, int] = {}
        self._blocks: dict[Origin, list[NamedLine]] = {}

    def take(self, found: NamedLine) -> int | None:
        """Remember a heading; returns the one above it, if only this one shows that it was no setting."""
        if found.round is None or not is_heading(found):
            return None
        origin, above = found.segment.origin, None
        if origin not in self._rounds and _may_be_setting(found):
            above = self._perhaps.get(origin)
            if above is None or found.round <= above:
                self._perhaps[origin] = found.round
                return None
        self._rounds[origin] = found.round
        self._blocks[origin] = []
        return above

    def round_of(self, found: NamedLine) -> int | None:
        """Return the epoch or episode of a line: its own, or that of the heading above it."""
        return found.round if found.round is not None else self._rounds.get(found.segment.origin)

    def block(self, found: NamedLine) -> list[NamedLine]:
        """Return the lines below a heading up to this one, if each has one number alone; none otherwise.

        Any other line ends the block.
        """
        origin = found.segment.origin
        lines = [*self._blocks.pop(origin), found] if origin in self._blocks else []
        if len(found.found) != 1 or len(lines) > _LONGEST_BLOCK:
            return []
        if lines:
            self._blocks[origin] = lines
        return lines


def first_of_each(lines: Sequence[tuple[NamedLine, bool]]) -> list[NamedLine]:
    """Return the heading above the first metrics of each process, which is no setting: `Epoch 1`, or more follow.

    Args:
        lines: each with whether it has metrics.
    """
    above: dict[Origin, NamedLine] = {}
    begun: set[Origin] = set()
    first: list[NamedLine] = []
    for at, (found, has_metrics) in enumerate(lines):
        origin = found.segment.origin
        if origin in begun:
            continue
        if is_heading(found):
            above[origin] = found
        elif has_metrics:
            begun.add(origin)
            heading = above.get(origin)
            if heading is not None and (not _may_be_setting(heading) or _recurs(heading, lines[at:])):
                first.append(heading)
    return first


def evidence_below(found: NamedLine, headings: Headings) -> tuple[frozenset[str], int | None]:
    """Return the metrics of a line without a step that show a trainer, and the heading that they need to show it.

    Where they show one by themselves, that is None: how many such lines a heading has nobody knows. Lines with one
    metric each below a heading may show one together.
    """
    alone = evidence_of(found.found, has_place=False, body=found.segment.body)
    number = headings.round_of(found)
    if alone or number is None:
        return alone, None
    below = evidence_of(found.found, has_place=True, body=found.segment.body)
    return below or _evidence_of_block(headings.block(found)), number


def _evidence_of_block(lines: Sequence[NamedLine]) -> frozenset[str]:
    """Return the metrics of lines with one each that show a trainer: three, or what only trainers print together."""
    numbers = [one for line in lines for one in line.found]
    body = b"\n".join(line.segment.body for line in lines)
    together = evidence_of(numbers, has_place=True, body=body)
    is_enough = len(together) >= _FEWEST_IN_BLOCK
    return together if is_enough else evidence_of(numbers, has_place=False, body=body)


def _may_be_setting(found: NamedLine) -> bool:
    """Tell whether a colon or an equals sign stands before the number, and nothing says how many there are."""
    return any(one.is_marked for one in found.found) and not _OF.search(found.segment.body)


def _recurs(heading: NamedLine, lines: Sequence[tuple[NamedLine, bool]]) -> bool:
    """Tell whether a later heading of the same process follows."""
    same = (found for found, _ in lines if is_heading(found) and found.segment.origin == heading.segment.origin)
    return any((found.round or 0) > (heading.round or 0) for found in same)
