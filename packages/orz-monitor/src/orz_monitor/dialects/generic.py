"""The fallback: lines with names and numbers of a trainer that nobody has described.

It reads a log in which no dialect found a metric. A line is a trainer's if a number in it has a name that tells so:
`loss: 0.5`, `reward 0.43`. Of such a line every number is read. Once one was seen, so are lines that begin with a step,
or have several names with a colon or an equals sign: until then they are held, since other programs print such lines,
too. A log that never says which step, iteration, episode or epoch it is at needs lines with two known metrics each,
which are counted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from orz_monitor.dialects.base import Dialect, Meaning
from orz_monitor.dialects.generic_keys import MEANINGS, ROUNDS, STEPS, may_tell, meaning_of, plain, tells_of_training
from orz_monitor.dialects.named_numbers import UNNAMED, NamedNumber, named_numbers
from orz_monitor.log import Entry, Log, Row
from orz_monitor.metric_like import is_metric_like
from orz_monitor.transport.lines import Line, Segment
from orz_monitor.transport.prefixes import Origin

_LONGEST_BYTES: Final = 1 << 14
_HEADING: Final = re.compile(rb"[^A-Za-z]{0,80}[A-Za-z_ ]{2,20}[^A-Za-z]{0,80}")
"""A line with nothing but a step on it."""
_FEWEST_MARKED: Final = 3
_FEWEST_KNOWN: Final = 2
_MOST_HELD: Final = 1000
_MOST_DIGITS: Final = 12


@dataclass(frozen=True, kw_only=True, slots=True)
class _Numbers:
    """What was read of one segment.

    Attributes:
        pairs: names and printed numbers but for the step.
        step: the step that it says, or None.
        tells: whether it is a trainer's for certain.
        counts: whether it is, if the log is a trainer's.
        segment: where it was read.
        line: its number.
        is_cut: whether it is longer than what was read of it.
    """

    pairs: list[tuple[bytes, bytes]]
    step: int | None
    tells: bool
    counts: bool
    segment: Segment
    line: int
    is_cut: bool


class Generic(Dialect):
    """Whatever has a name and a number, in the log of a trainer."""

    name = "generic"
    title = "an unknown trainer"
    gates = (
        b"loss", b"Loss", b"LOSS", b"eward", b"REWARD", b"kl", b"KL", b"ntropy", b"dvantage", b"lr", b"LR", b"grad",
        b"Grad", b"acc", b"Acc", b"ppl", b"erplexity", b"step", b"Step", b"STEP", b"iter", b"Iter", b"pdate", b"poch",
        b"EPOCH", b"pisode", b"xplained", b"clip", b"Clip", b"earning", b"esponse",
    )  # fmt: skip
    meanings: ClassVar[Mapping[str, Meaning]] = MEANINGS

    def __init__(self) -> None:
        super().__init__()
        self._is_trainers = False
        self._step: int | None = None
        self._held: list[_Numbers] = []

    def read(self, line: Line, log: Log) -> bool:
        """Read the numbers of a line."""
        understood = False
        if not self._is_trainers and len(self._held) == _MOST_HELD and not may_tell(line.raw):
            return False  # most likely, it never will be
        for segment in line.segments:
            log.offset = segment.offset
            found = _numbers(segment, line.number)
            if found.tells and not self._is_trainers:
                self._is_trainers = True
                for held in self._held:
                    self._add(held, log)
                self._held.clear()
            if found.tells or (found.counts and self._is_trainers):
                self._add(found, log)
            elif found.counts and len(self._held) < _MOST_HELD:
                self._held.append(found)
            else:
                continue
            understood = True
        return understood

    def finish(self, log: Log) -> None:
        """Count the lines that look like metrics where nothing told that the log is a trainer's."""
        log.files[-1].num_missed_lines += sum(is_metric_like(held.segment.body) for held in self._held)
        self._held.clear()

    def _add(self, found: _Numbers, log: Log) -> None:
        """Add a row; without a step of its own it is of the one before."""
        if found.step is not None:
            self._step = found.step
        log.files[-1].num_missed_lines += found.is_cut
        offset, log.offset = log.offset, found.segment.offset
        log.add_pairs(
            self.name,
            found.pairs,
            line=found.line,
            step=self._step,
            time=found.segment.time,
            origin=found.segment.origin,
        )
        log.offset = offset

    def meaning(self, key: str) -> Meaning | None:
        """Return what a raw key is."""
        return meaning_of(key)

    def number(self, entries: Sequence[Entry], log: Log) -> None:  # noqa: ARG002
        """Give rows without a step that of the row before, or the first one.

        Where no row has one, episodes count, or epochs, or lines that have two known metrics each.
        """
        rows = [entry for entry in entries if isinstance(entry, Row)]
        if all(row.step is None for row in rows):
            _count_rounds(rows)
        if all(row.step is None for row in rows):
            _count_lines(rows)
        step = next((row.step for row in rows if row.step is not None), None)
        for row in rows:
            row.step = step = step if row.step is None else row.step


def _numbers(segment: Segment, line: int) -> _Numbers:
    """Read one segment, up to its first 16 KiB."""
    found = named_numbers(segment.body[:_LONGEST_BYTES])
    is_cut = len(segment.body) > _LONGEST_BYTES
    if is_cut:
        found = found[:-1]  # it may be half a number
    names = [plain(one.key.decode("utf-8", "replace")) for one in found]
    at = next((at for at, name in enumerate(names) if name in STEPS and _is_count(found[at].token)), None)
    rest = [one for index, one in enumerate(found) if index != at]
    heads = bool(names) and (at == 0 or names[0] in ROUNDS)
    if at is not None and all(one.key.endswith(b"/of") for one in rest) and not _HEADING.fullmatch(segment.body):
        at = None  # words about a step
    return _Numbers(
        pairs=[(one.key, one.token) for one in rest],
        step=int(found[at].token) if at is not None else None,
        tells=any(_tells(one) for one in rest),
        counts=heads or sum(one.is_marked for one in rest) >= _FEWEST_MARKED,
        segment=segment,
        line=line,
        is_cut=is_cut,
    )


def _tells(one: NamedNumber) -> bool:
    """Tell whether a number is one of a trainer's."""
    return one.key != UNNAMED and tells_of_training(one.key.decode("utf-8", "replace"), is_marked=one.is_marked)


def _is_count(token: bytes) -> bool:
    """Tell whether a token is a number of steps."""
    return token.isdigit() and len(token) <= _MOST_DIGITS


def _count_rounds(rows: Sequence[Row]) -> None:
    """Give rows the episode that they have, or the epoch, as their step."""
    for name in ROUNDS:
        for row in rows:
            for key, value in zip(row.keys, row.values, strict=True):
                if plain(key) == name and value.is_integer() and value >= 0:
                    row.step = int(value)
        if any(row.step is not None for row in rows):
            return


def _count_lines(rows: Sequence[Row]) -> None:
    """Count, of each process, the rows that have two known metrics."""
    counts: Counter[Origin] = Counter()
    for row in rows:
        if sum(tells_of_training(key, is_marked=False) for key in row.keys) >= _FEWEST_KNOWN:
            counts[row.origin] += 1
            row.step = counts[row.origin]
