"""The fallback: lines with names and numbers of a trainer that nobody has described.

It reads a log in which no dialect found a metric. A log is a trainer's if known metrics recur in it, in three lines
with rising steps: `iteration 3 | loss 0.083 | reward 0.43`. Until then, lines that may be of one are held. From
then on, every number with a name is read of lines with a word of training (`reward: 0.5`), of those that begin with a
step, and of those with several names before a colon or an equals sign. A log that never says which step, iteration,
episode or epoch it is at needs a metric that only trainers have, and another one; its lines are counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import ClassVar, Final, Self

from orz_monitor.dialects.bars import read_bar
from orz_monitor.dialects.base import Dialect, Meaning
from orz_monitor.dialects.generic.decimal_commas import UNDECIDED, with_points
from orz_monitor.dialects.generic.evidence import Evidence, Place, evidence_of
from orz_monitor.dialects.generic.headings import (
    Headings,
    evidence_below,
    first_of_each,
    is_heading,
    is_row_of_heading,
    numbers_of,
)
from orz_monitor.dialects.generic.held_lines import HeldLines
from orz_monitor.dialects.generic.keys import (
    MEANINGS,
    ROUNDS,
    known_name,
    meaning_of,
    plain,
)
from orz_monitor.dialects.generic.named_lines import NamedLine, read_line
from orz_monitor.dialects.generic.step_counts import StepCount
from orz_monitor.dialects.generic.too_little import TooLittle
from orz_monitor.dialects.numbering import entries_of
from orz_monitor.log import Log, Row
from orz_monitor.metric_like import is_metric_like
from orz_monitor.transport.lines import Line
from orz_monitor.transport.prefixes import Origin

_FEWEST_KNOWN: Final = 2


class Generic(Dialect):
    """Whatever has a name and a number, in the log of a trainer."""

    name = "generic"
    title = "an unknown trainer"
    gates = (
        b"loss", b"Loss", b"LOSS", b"eward", b"REWARD", b"kl", b"KL", b"ntropy", b"dvantage", b"lr", b"LR", b"grad",
        b"Grad", b"acc", b"Acc", b"ppl", b"erplexity", b"step", b"Step", b"STEP", b"iter", b"Iter", b"pdate", b"poch",
        b"EPOCH", b"pisode", b"xplained", b"clip", b"Clip", b"earning", b"esponse",
        b"core", b"actor/", b"critic/", b"policy/", b"rollout/",
    )  # fmt: skip
    meanings: ClassVar[Mapping[str, Meaning]] = MEANINGS

    def __init__(self) -> None:
        super().__init__()
        self._is_trainers = False
        self._evidence = Evidence()
        self._counts: dict[Origin, StepCount] = {}
        self._headings = Headings()
        self._held = HeldLines()
        self._too_little = TooLittle()
        self._has_commas = False

    def go_on(self, earlier: Self) -> None:
        """Take over that the log is a trainer's, and where its processes are."""
        self._is_trainers = earlier._is_trainers
        self._has_commas = earlier._has_commas
        self._counts, self._headings = earlier._counts, earlier._headings
        self._evidence = earlier._evidence

    def read(self, line: Line, log: Log) -> bool:
        """Read the numbers of a line."""
        if not self._is_trainers:
            if self._held.can_skip(line):
                return False  # most likely, it never will be
            for earlier in self._held.skipped():
                self._take(earlier, log)
        return self._take(line, log)

    def _take(self, line: Line, log: Log) -> bool:
        """Take a line apart, and hold or add what is on it; returns whether any was."""
        understood = False
        for segment in line.segments:
            log.offset = segment.offset
            found = read_line(segment, line.number)
            self._take_heading(found)
            self._has_commas = self._has_commas or found.has_commas
            if self._is_trainers:
                if found.tells or found.counts:
                    self._add(found, log)
                    understood = True
            elif found.found or found.step is not None:
                understood = self._hold(found, line, log) or understood
        return understood

    def _take_heading(self, found: NamedLine) -> None:
        """Remember a line that is a heading, and of which one above it the steps so far were."""
        above = self._headings.take(found)
        if above is not None and (count := self._counts.get(found.segment.origin)) is not None:
            count.was_in(above)

    def finish(self, log: Log) -> None:
        """Decide by two lines where there are no more; count those that look like metrics where nothing told."""
        if not self._is_trainers and self._evidence.settles_for_two():
            self._release(log)
        log.files[-1].num_missed_lines += sum(is_metric_like(held.segment.body) for held, _ in self._held.lines)
        if not self._is_trainers:
            self._too_little.tell(log.files[-1])
        self._held = HeldLines()

    def _hold(self, found: NamedLine, line: Line, log: Log) -> bool:
        """Keep a line until it is known whether the log is a trainer's; returns whether it was kept."""
        origin = found.segment.origin
        if found.step is not None:
            self._counts.setdefault(origin, StepCount()).step = found.step
        place, metrics = self._place(found), frozenset[str]()
        if not found.is_lost and place is not None:
            metrics = evidence_of(found.found, has_place=True, body=found.segment.body)
        elif not found.is_lost:
            metrics, heading = evidence_below(found, self._headings)
            place = (heading, -1) if heading is not None else None
        if found.found:
            self._evidence.take(found.found, metrics, origin, place)
            self._too_little.take(found)
        is_evidence = bool(metrics)
        if not (found.tells or found.counts or is_evidence):
            return False
        is_held = self._held.take(found, line.raw, is_evidence=is_evidence)
        if is_held and self._evidence.enough:
            self._release(log)
        return is_held

    def _place(self, found: NamedLine) -> Place | None:
        """Return the epoch and step of a line, by which it is told whether they rise."""
        count = self._counts.get(found.segment.origin)
        step = found.step if found.step is not None else count.step if count is not None else None
        if step is None and found.round is None:
            return None
        return -1 if found.round is None else found.round, -1 if step is None else step

    def _release(self, log: Log) -> None:
        """Add what was held: the log is a trainer's.

        What stands before its first line with metrics may be settings, and is counted unless it begins with a step or
        is the heading of that line.
        """
        self._is_trainers = True
        self._counts.clear()
        self._headings = Headings()
        headings = first_of_each(self._held.lines)
        is_begun = False
        for found, is_evidence in self._held.lines:
            is_begun = is_begun or is_evidence
            self._take_heading(found)
            is_begun = is_begun or any(found is heading for heading in headings)
            if is_begun or (found.begins and found.step is not None):
                self._add(found, log)
            else:
                log.files[-1].num_missed_lines += 1
        log.files[-1].num_missed_lines += self._held.num_passed
        self._held = HeldLines()

    @property
    def num_alike(self) -> int:
        """How many lines look like a trainer's that is not told for certain; 0 where it is."""
        return 0 if self._is_trainers else self._evidence.num_alike

    def _add(self, found: NamedLine, log: Log) -> None:
        """Add a row; without a step of its own it is of the one that its process printed before."""
        facts, origin = log.files[-1], found.segment.origin
        if found.is_lost:
            self._counts.setdefault(origin, StepCount()).step = None
            facts.num_missed_lines += 1
            return
        if found.step is not None:
            number = self._headings.round_of(found)
            self._counts.setdefault(origin, StepCount()).read(found.step, number, found.total)
        count = self._counts.get(origin)
        if not found.found:
            return
        if (count.step if count is not None else None) is None and self._counts:
            facts.num_missed_lines += 1  # others say where they are
            return
        numbers = numbers_of(found)
        pairs = [(one.key, one.token) for one in (with_points(numbers) if self._has_commas else numbers)]
        facts.num_missed_lines += found.is_cut or any(token.startswith(UNDECIDED) for _, token in pairs)
        offset, log.offset = log.offset, found.segment.offset
        row = log.add_pairs(
            self.name,
            pairs,
            line=found.line,
            step=count.step if count is not None and not is_heading(found) else None,
            time=found.segment.time,
            origin=origin,
        )
        log.offset = offset
        if row is not None:
            row.num_unnamed, row.bar = found.num_unnamed, _frame(found.segment.body)

    def meaning(self, key: str) -> Meaning | None:
        """Return what a raw key is."""
        return meaning_of(key)

    def number(self, log: Log) -> None:
        """Give rows without a step that of the row before of the same process, and headings that of the row below.

        Where no row has one, episodes count, or epochs, or lines that show a trainer by themselves.
        """
        rows = [entry for entry in entries_of(log, self.name) if isinstance(entry, Row)]
        if all(row.step is None for row in rows):
            _count_rounds(rows)
        if all(row.step is None for row in rows):
            _count_lines(rows)
        steps: dict[Origin, int | None] = {}
        for row in reversed(rows):
            if row.step is not None:
                steps[row.origin] = row.step
            elif is_row_of_heading(row):
                row.step = steps.get(row.origin)
        for row in rows:  # before the first one of its process, a row is at that
            if row.step is not None:
                steps[row.origin] = row.step
            row.step = steps.get(row.origin)
        _supersede_frames(rows)


def _frame(body: bytes) -> tuple[int, int, int | None] | None:
    """Return 0, the counter and the total of a bar's frame, or None for another line.

    It goes on from the beginning: its values take the place of those of the frames before.
    """
    bar = read_bar(body) if b"%|" in body else None
    return (0, bar.done, bar.total) if bar is not None else None


def _supersede_frames(rows: Sequence[Row]) -> None:
    """Leave as frames of a bar only those that were drawn again for the same step: they tell of no restart.

    What has no name is counted of the last one alone. So it is with whatever is printed again on the same line.
    """
    before: dict[tuple[tuple[str, ...], Origin], Row] = {}
    for row in rows:
        last = before.get((row.keys, row.origin))
        before[row.keys, row.origin] = row
        is_again = last is not None and (row.step, row.file) == (last.step, last.file)
        if last is None or not is_again or not (row.bar or row.line == last.line):
            row.bar = None
            continue
        row.bar = row.bar or (0, 0, None)
        last.num_unnamed = 0


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
        if len({known_name(key) for key in row.keys} - {None}) >= _FEWEST_KNOWN:
            counts[row.origin] += 1
            row.step = counts[row.origin]
