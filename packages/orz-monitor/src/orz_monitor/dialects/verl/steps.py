"""Metric lines of verl, `step:12 - actor/pg_loss:0.0123`: many at once where they are alike, else one by one."""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import replace
from typing import Final

import numpy as np

from orz_monitor.dialects.layout import Layouts
from orz_monitor.dialects.verl.items import (
    BETWEEN,
    STEP,
    has_twice,
    is_begun,
    is_dangling,
    is_open,
    is_torn,
    with_each_key_once,
)
from orz_monitor.dialects.verl.lone_prefixes import may_inherit
from orz_monitor.dialects.verl.restarts import behind, restart_in
from orz_monitor.dialects.verl.rests import may_complete_keys, rest_may_follow, rests_may_follow
from orz_monitor.dialects.verl.shown import ShownStep
from orz_monitor.dialects.verl.whole import WholeSteps
from orz_monitor.dialects.verl.width import length_of
from orz_monitor.dialects.verl.wrapped import WrappedStep
from orz_monitor.log import Log, Row
from orz_monitor.numbers import integers_at
from orz_monitor.transport.batch import Batch
from orz_monitor.transport.lines import Line, Segment
from orz_monitor.transport.prefixes import NOWHERE, Origin

__all__ = ["STEP", "StepLines"]

_NO_PREFIX: Final = b"\n"
"""No line begins so."""
_SUFFIXES: Final = (b"]", b"options.)")
"""How a line ends on which more may stand than the metrics."""
_MOST_DIGITS: Final = 15
_MOST_RESTARTS: Final = 16
"""On one line; a line with more of them was not written by a trainer."""
_NO_RESTS: Final = (b"Training Progress:", b"\n")
"""What begins a line of its own; what else does is looked at closely."""
_MOST_OPEN: Final = 80
"""More bytes a value without an end does not have."""


class StepLines:
    """The metric lines of one log.

    Args:
        dialect: name of the dialect that reads.

    Attributes:
        held: the line that may go on.
    """

    def __init__(self, dialect: str) -> None:
        self._prefix: tuple[bytes, Origin] = (_NO_PREFIX, NOWHERE)
        self._layouts = Layouts(dialect, b":", BETWEEN)
        self._steps: list[tuple[int, int]] = []
        self._whole = WholeSteps()
        self.held = WrappedStep(self._whole)
        self._shown = ShownStep()

    def scan(self, batch: Batch, log: Log) -> None:
        """Read the metric lines whose prefix is that of the one before, which nearly all are."""
        text = batch.text
        at = text.find(b"step:")
        self.learn_prefix(Line(text[text.rfind(b"\n", 0, at) + 1 : text.find(b"\n", at)]))
        prefix, origin = self._prefix
        begins, ends, numbers = batch.lines_beginning(prefix + b"step:")
        steps, num_digits = integers_at(text, begins + len(prefix) + len(b"step:"))
        whole = ~(rests_may_follow(text, ends, prefix) | may_complete_keys(text, begins, batch.before, prefix))
        if not prefix:
            whole &= ~may_inherit(text, begins)
        counted = np.flatnonzero((num_digits > 0) & (num_digits <= _MOST_DIGITS) & whole)
        begins, ends, numbers, steps = begins[counted], ends[counted], numbers[counted], steps[counted]
        starts = begins + len(prefix) + len(b"step:") + num_digits[counted]
        added, first_lines = self._layouts.add_all(text, starts, ends, log, lines=numbers, steps=steps, origin=origin)
        self._whole.note_all(first_lines)
        alone: list[int] = []
        for index in np.delete(np.arange(len(begins)), added).tolist():
            body = text[starts[index] : ends[index]]
            if body.startswith(BETWEEN) and b"\r" not in body and b"\x1b" not in body and not body.endswith(_SUFFIXES):
                if self._may_be_broken(text, int(ends[index])) or has_twice(body):
                    continue
                if restart_in(text[begins[index] + len(prefix) : ends[index]]) is not None:
                    continue
                line, step = int(numbers[index]), int(steps[index])
                row = self._layouts.add(body, len(BETWEEN), log, line=line, step=step, origin=origin)
                if row is not None:
                    log.files[-1].num_missed_lines += is_torn(body)
                    self._whole.note(row.keys, line, is_whole=not is_torn(body))
                    alone.append(index)
        read = np.sort(np.concatenate([added, np.array(alone, dtype=np.intp)]))
        lengths = (ends - begins)[read] - len(prefix) + length_of(prefix)
        if not self._whole.is_ascii:
            lines = zip(begins[read].tolist(), ends[read].tolist(), strict=True)
            lengths = np.array([length_of(text[begin:end]) for begin, end in lines], dtype=np.int64)
        self._whole.measure(numbers[read], lengths)
        self._steps += zip(numbers[read].tolist(), steps[read].tolist(), strict=True)
        batch.take_all(begins[read], ends[read])

    def _may_be_broken(self, text: bytes, end: int) -> bool:
        """Tell whether the rest of a metric line may stand on the lines below, so that `read` puts it together.

        Args:
            text: whole lines.
            end: where its newline stands.
        """
        last = text[max(end - _MOST_OPEN, 0) : end]
        if end + 1 == len(text) or is_dangling(last) or is_open(last):
            return True
        return not text.startswith(_NO_RESTS, end + 1) and rest_may_follow(text, end, self._prefix[0])

    def learn_prefix(self, line: Line) -> None:
        """Remember what stands before a metric line, if that is all that may vary."""
        first = line.segments[0] if line.segments else None
        if first is not None and first.time is None and len(line.segments) == 1 and STEP.match(first.body):
            self._prefix = (line.raw[: line.raw.find(b"step:")], first.origin)

    def hold(self, line: Line, log: Log) -> bool:
        """Wait with a metric line for the next line, which may be its rest."""
        if not line.segments:
            return False
        last = line.segments[-1]
        if (restart := self.held.restart_on(line)) is not None:
            last = self.held.cut(last, restart)
        match = STEP.match(last.body)
        if match is None or not is_begun(last.body, match.end()):
            return False
        self.end(log)
        last = self._behind_restarts(last, line.number, log)
        self.held.begin(last, line if last is line.segments[-1] else Line(last.body, line.number))
        return True

    def _behind_restarts(self, segment: Segment, number: int, log: Log) -> Segment:
        """Add the metric lines that were cut where another one begins; returns the one that is not."""
        offset = log.offset
        for _ in range(_MOST_RESTARTS):
            restart = restart_in(segment.body)
            if restart is None:
                break
            log.offset, torn = segment.offset, replace(segment, body=restart.before)
            self._note(self._row_of(torn, number, log), torn, number, log, is_missed=True)
            segment = behind(segment, restart)
        log.offset = offset
        return segment

    def end(self, log: Log) -> None:
        """Add the metric line that was put together, in the place of what was shown of it."""
        held, shown = self.held, self._shown
        if not held.body:
            return
        body, is_missed = held.certain()
        offset, log.offset = log.offset, held.first.offset
        whole = replace(held.first, body=body)
        row = shown.row if body == shown.body else self._row_of(whole, held.line, log)
        shown.take(row, log)
        self._note(row, whole, held.line, log, is_missed=is_missed, length=held.length)
        log.offset = offset
        held.end()

    @property
    def is_unsure(self) -> bool:
        """Whether less is shown of a line that may go on than it is if nothing follows."""
        return bool(self.held.body) and self._shown.body != self.held.certain()[0]

    def show(self, log: Log, *, as_it_stands: bool = False) -> None:
        """Add what is likely of a line that may go on, or what it is if nothing follows, for whoever looks now."""
        held = self.held
        body = b"" if not held.body else held.certain()[0] if as_it_stands else held.likely()
        if body and body != self._shown.body:
            offset, log.offset = log.offset, held.first.offset
            row = self._row_of(replace(held.first, body=body), held.line, log)
            log.offset = offset
            self._shown.show(row, body, log)

    def forget(self, line: int | None) -> None:
        """Forget the steps of a batch but for the last, and the one before a line for which it will be asked."""
        last = len(self._steps) - 1
        if line is not None:
            last = min(last, bisect_left(self._steps, (line, 0)) - 1)
        del self._steps[: max(last, 0)]

    def step_before(self, number: int) -> int | None:
        """Return the step whose metrics stand before a line; None where there are none in what was read."""
        at = bisect_left(self._steps, (number, 0))
        return self._steps[at - 1][1] if at else None

    def add(self, segment: Segment, number: int, log: Log) -> bool:
        """Add a metric line behind which something else stands; tells whether it has a value."""
        segment = self._behind_restarts(segment, number, log)
        log.offset = segment.offset
        row = self._row_of(segment, number, log)
        self._note(row, segment, number, log)
        return row is not None

    def _row_of(self, segment: Segment, number: int, log: Log) -> Row | None:
        """Add the row of a metric line; None where it is none, or has no value."""
        match = STEP.match(segment.body)
        if match is None:
            return None
        body = with_each_key_once(segment.body.rstrip().removesuffix(b" -"))
        return self._layouts.add(
            body, match.end(), log, line=number, step=int(match[1]), time=segment.time, origin=segment.origin
        )

    def _note(
        self, row: Row | None, segment: Segment, number: int, log: Log, *, is_missed: bool = False, length: int = 0
    ) -> None:
        """Take note of a metric line that was read.

        Args:
            row: its row, None where it has no value.
            segment: the line.
            number: line number.
            log: where lines of which more may be missing are counted.
            is_missed: whether it is one of these.
            length: characters of a line that stands in one piece; else 0.
        """
        match = STEP.match(segment.body)
        if match is None:
            return
        body = segment.body
        insort(self._steps, (number, int(match[1])))
        is_missed = is_missed or is_torn(body[match.end(1) :]) or with_each_key_once(body) != body
        log.files[-1].num_missed_lines += is_missed
        if row is not None:
            self._whole.note(row.keys, number, is_whole=not is_missed)
            if not is_missed:
                self._whole.measure(np.array([number]), np.array([length]))
