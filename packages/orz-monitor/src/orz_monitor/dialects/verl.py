"""verl and its forks, every era: `step:12 - actor/pg_loss:0.0123 - timing_s/gen:18.05`.

Until mid-2025 values were printed as `.3f`: a learning rate of 1e-6 reads as `0.000`. Since then they are printed in
full, and numpy's as `np.float64(0.0123)`.
"""

from __future__ import annotations

import re
from bisect import bisect_left, insort
from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Final

import numpy as np

from orz_monitor.dialects.bars import read_bar
from orz_monitor.dialects.base import Dialect, Meaning
from orz_monitor.dialects.layout import Layouts
from orz_monitor.dialects.lone_prefixes import may_inherit
from orz_monitor.dialects.shown_step import ShownStep
from orz_monitor.dialects.step_items import BETWEEN, is_dangling, is_open, is_torn
from orz_monitor.dialects.step_rests import rest_may_follow, rests_may_follow
from orz_monitor.dialects.verl_keys import MEANINGS, meaning_of
from orz_monitor.dialects.verl_validation import Validation
from orz_monitor.dialects.whole_steps import WholeSteps
from orz_monitor.dialects.wrapped_step import WrappedStep, length_of
from orz_monitor.log import Log, Row
from orz_monitor.numbers import integers_at
from orz_monitor.transport.batch import Batch
from orz_monitor.transport.lines import Line, Segment
from orz_monitor.transport.prefixes import NOWHERE, Origin

_STEP: Final = re.compile(rb"step:(\d{1,15})(?: - | -$|$)")
_RESUMED: Final = re.compile(rb"[Ss]etting global step to (\d{1,15})")
_NOT_FINITE: Final = re.compile(rb"rank (\d{1,6}) grad_norm is not finite: (\S{1,20})")
_TOTAL: Final = re.compile(rb"Total training steps: (\d{1,15})")
_NO_PREFIX: Final = b"\n"
"""No line begins so."""
_SUFFIXES: Final = (b"]", b"options.)")
"""How a line ends on which more may stand than the metrics."""
_MOST_DIGITS: Final = 15
_NO_RESTS: Final = (b"Training Progress:", b"\n")
"""What begins a line of its own; what else does is looked at closely."""
_MOST_OPEN: Final = 80
"""More bytes a value without an end does not have."""


class Verl(Dialect):
    """The console logger of verl."""

    name = "verl"
    title = "verl"
    has_whole_steps = True
    bulk = b"step:"
    gates = (b"step:", b"validation metrics", b"global step to ", b"grad_norm is not finite", b"Training Progress:")
    meanings: ClassVar[Mapping[str, Meaning]] = MEANINGS
    missing: ClassVar[Mapping[str, str]] = {
        "rollout/zero_variance_frac": "verl does not log it; filter_groups (DAPO) shows it as a growing timing_s/gen.",
        "rollout/repetition": "verl does not log it; set trainer.rollout_data_dir and look at the samples.",
        "mismatch/kl_k3": "set actor_rollout_ref.rollout.calculate_log_probs=True.",
        "reward/std": "verl logs critic/score/max and /min only.",
    }

    def __init__(self) -> None:
        super().__init__()
        self._prefix: tuple[bytes, Origin] = (_NO_PREFIX, NOWHERE)
        self._layouts = Layouts(self.name, b":", BETWEEN)
        self._validation = Validation()
        self._steps: list[tuple[int, int]] = []
        self._whole = WholeSteps()
        self._wrapped = WrappedStep(self._whole)
        self._shown = ShownStep()

    def scan(self, batch: Batch, log: Log) -> None:
        """Read the metric lines whose prefix is that of the one before, which nearly all are."""
        text = batch.text
        at = text.find(b"step:")
        self._learn_prefix(Line(text[text.rfind(b"\n", 0, at) + 1 : text.find(b"\n", at)]))
        prefix, origin = self._prefix
        begins, ends, numbers = batch.lines_beginning(prefix + b"step:")
        steps, num_digits = integers_at(text, begins + len(prefix) + len(b"step:"))
        whole = ~rests_may_follow(text, ends, prefix)
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
                if self._may_be_broken(text, int(ends[index])):
                    continue
                line, step = int(numbers[index]), int(steps[index])
                row = self._layouts.add(body, len(BETWEEN), log, line=line, step=step, origin=origin)
                if row is not None:
                    log.files[-1].num_missed_lines += is_torn(body)
                    self._whole.note(row.keys, line, is_whole=not is_torn(body))
                    alone.append(index)
        read = np.sort(np.concatenate([added, np.array(alone, dtype=np.intp)]))
        self._whole.measure(numbers[read], (ends - begins)[read] - len(prefix) + length_of(prefix))
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

    def _learn_prefix(self, line: Line) -> None:
        """Remember what stands before a metric line, if that is all that may vary."""
        first = line.segments[0] if line.segments else None
        if first is not None and first.time is None and len(line.segments) == 1 and _STEP.match(first.body):
            self._prefix = (line.raw[: line.raw.find(b"step:")], first.origin)

    def read(self, line: Line, log: Log) -> bool:
        """Read a metric line, a validation, a bar, or a step that was set."""
        understood = held = self._hold(line, log)
        for segment in line.segments[:-1] if held else line.segments:
            log.offset = segment.offset
            understood = self._read(segment, line.number, log) or understood
        self._learn_prefix(line)
        self.more_open = bool(self._wrapped.body) or self._validation.first is not None
        return understood

    def _hold(self, line: Line, log: Log) -> bool:
        """Wait with a metric line for the next line, which may be its rest."""
        last = line.segments[-1] if line.segments else None
        match = _STEP.match(last.body) if last is not None else None
        if last is None or match is None or (b":" not in last.body[match.end() :] and not is_dangling(last.body)):
            return False
        self._add_wrapped(log)
        self._wrapped.begin(last, line)
        return True

    def _add_wrapped(self, log: Log) -> None:
        """Add the metric line that was put together, in the place of what was shown of it."""
        held = self._wrapped
        if not held.body:
            return
        body, is_missed = held.certain()
        offset, log.offset = log.offset, held.first.offset
        self._add_step(replace(held.first, body=body), held.line, log, is_missed=is_missed, length=held.length)
        log.offset = offset
        held.end()

    def settle(self, log: Log) -> None:
        """Show what is likely of a line that may go on, and forget the steps of a batch that nobody will ask for."""
        held = self._wrapped
        body = held.likely() if held.body else b""
        if body and body != self._shown.body:
            offset, log.offset = log.offset, held.first.offset
            row = self._row_of(replace(held.first, body=body), held.line, log)
            log.offset = offset
            self._shown.show(row, body, log)
        last = len(self._steps) - 1
        if self._validation.first is not None:
            last = min(last, bisect_left(self._steps, (self._validation.line, 0)) - 1)
        del self._steps[: max(last, 0)]

    def _step_before(self, number: int) -> int:
        """Return the step whose metrics stand before a line; 0 where there are none."""
        at = bisect_left(self._steps, (number, 0))
        return self._steps[at - 1][1] if at else 0

    def _row_of(self, segment: Segment, number: int, log: Log) -> Row | None:
        """Add the row of a metric line; None where it is none, or has no value."""
        match = _STEP.match(segment.body)
        if match is None:
            return None
        body = segment.body.rstrip().removesuffix(b" -")
        return self._layouts.add(
            body, match.end(), log, line=number, step=int(match[1]), time=segment.time, origin=segment.origin
        )

    def _add_step(self, segment: Segment, number: int, log: Log, *, is_missed: bool = False, length: int = 0) -> bool:
        """Add a metric line; tells whether it is one.

        Args:
            segment: the line.
            number: line number.
            log: where the row goes.
            is_missed: whether more of it may be missing.
            length: characters of a line that stands in one piece; else 0.
        """
        match = _STEP.match(segment.body)
        if match is None:
            return False
        insort(self._steps, (number, int(match[1])))
        row = self._shown.row
        if row is None or segment.body != self._shown.body:
            row = self._row_of(segment, number, log)
            self._shown.take(row, log)
        else:
            self._shown.keep()
        is_missed = is_missed or is_torn(segment.body[match.end(1) :])
        log.files[-1].num_missed_lines += is_missed
        if row is not None:
            self._whole.note(row.keys, number, is_whole=not is_missed)
            if not is_missed:
                self._whole.measure(np.array([number]), np.array([length]))
        return row is not None

    def _read(self, segment: Segment, number: int, log: Log) -> bool:
        """Read one segment."""
        body = segment.body
        if _STEP.match(body):
            return self._add_step(segment, number, log)
        if self._validation.begin(segment, number):
            if self._validation.is_whole:
                self._validated(log)
            return True
        if match := _RESUMED.search(body):
            log.add_event(self.name, "resume", line=number, step=int(match[1]), time=segment.time)
            return True
        if match := _NOT_FINITE.search(body):
            reason = f"grad_norm {match[2].decode('ascii', 'replace')}"
            log.add_event(
                self.name,
                "skipped_update",
                line=number,
                time=segment.time,
                origin=segment.origin,
                data={"role": "policy", "reason": reason, "rank": int(match[1])},
            )
            return True
        if body.startswith(b"Training Progress:") and (bar := read_bar(body)) is not None:
            log.add_tick(
                self.name,
                "Training Progress",
                bar.done,
                bar.total,
                line=number,
                time=segment.time,
                elapsed_s=bar.elapsed_s,
            )
            return True
        return False

    def more(self, line: Line, log: Log) -> bool:
        """Collect the rest of a metric line, or a dictionary of validation metrics that goes over several lines."""
        held = self._wrapped
        if held.body and held.add(line):
            for segment in line.segments[1:]:  # a bar is glued to its end
                log.offset = segment.offset
                self._read(segment, line.number, log)
            return True
        if held.body and not held.waits_after(line):
            self._add_wrapped(log)
        belonged = self._more_of_validation(line, log)
        self.more_open = bool(held.body) or self._validation.first is not None
        return belonged

    def _more_of_validation(self, line: Line, log: Log) -> bool:
        """Collect more of a dictionary; the next step is no part of it, whatever of it is missing."""
        held = self._validation
        if held.first is None:
            return False
        ours = [segment for segment in line.segments if segment.origin == held.first.origin]
        is_ended = any(_STEP.match(segment.body) for segment in ours)
        if ours and not is_ended:
            held.add(ours)
        if is_ended or held.is_whole:
            self._validated(log)
        return bool(ours) and not is_ended

    def finish(self, log: Log) -> None:
        """Add a metric line, and validation metrics, whose end is missing."""
        self._add_wrapped(log)
        self._validated(log)

    def _validated(self, log: Log) -> None:
        """Add the validation metrics that were collected, as the last step's."""
        held, segment = self._validation, self._validation.first
        if segment is None:
            return
        time, origin, step = segment.time, segment.origin, self._step_before(held.line)
        is_last = held.is_last
        log.add_pairs(self.name, held.take(), line=held.line, step=step, time=time, origin=origin, axis="eval")
        if is_last:
            log.add_event(self.name, "finish", line=held.line, time=time, origin=origin)

    def meaning(self, key: str) -> Meaning | None:
        """Return what a raw key is; validation sets have their names in their keys."""
        return meaning_of(key)
