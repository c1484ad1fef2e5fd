"""verl and its forks, every era: `step:12 - actor/pg_loss:0.0123 - timing_s/gen:18.05`.

Until mid-2025 values were printed as `.3f`: a learning rate of 1e-6 reads as `0.000`. Since then they are printed in
full, and numpy's as `np.float64(0.0123)`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar, Final, Self

from orz_monitor.dialects.bars import read_bar
from orz_monitor.dialects.base import Dialect, Meaning
from orz_monitor.dialects.numbering import entries_of
from orz_monitor.dialects.verl.dumps import MOST_BYTES, STEP_BEGINS, Dumps, may_begin
from orz_monitor.dialects.verl.keys import MEANINGS, meaning_of
from orz_monitor.dialects.verl.steps import STEP, StepLines
from orz_monitor.dialects.verl.validation import Validation
from orz_monitor.log import Log, Row
from orz_monitor.rotation import logs_of
from orz_monitor.transport.batch import Batch
from orz_monitor.transport.lines import Line, Segment
from orz_monitor.transport.past import Past

_RESUMED: Final = re.compile(rb"[Ss]etting global step to (\d{1,15})")
_NOT_FINITE: Final = re.compile(rb"rank (\d{1,6}) grad_norm is not finite: (\S{1,20})")


class Verl(Dialect):
    """The console logger of verl."""

    name = "verl"
    title = "verl"
    has_whole_steps = True
    bar_of_steps = "Training Progress"
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
        self._lines = StepLines(self.name)
        self._validation = Validation()
        self._dumps = Dumps()
        self._past: Past | None = None

    def go_on(self, earlier: Self) -> None:
        """Take over a sample that the earlier part ends in."""
        self._dumps = earlier._dumps

    def look_back(self, past: Past) -> None:
        """Look for a sample that a part of a file begins in."""
        self._past = past
        before = past.last_lines(MOST_BYTES)
        self._dumps.hide(before, is_verl=may_begin(before) and past.holds(STEP_BEGINS, but_last=MOST_BYTES))

    def hide(self, text: bytes, log: Log) -> bytes:
        """Hide the samples that verl prints, once its metrics were seen."""
        is_verl = bool(log.votes[self.name] or self._lines.held.body)
        return self._dumps.hide(text, is_verl=is_verl or self._was_verl(text))

    def _was_verl(self, text: bytes) -> bool:
        """Tell, where it matters to a text, whether a metric of verl stands before the part that is read."""
        return self._past is not None and may_begin(text) and self._past.holds(STEP_BEGINS)

    def scan(self, batch: Batch, log: Log) -> None:
        """Read the metric lines whose prefix is that of the one before, which nearly all are."""
        self._lines.scan(batch, log)

    def read(self, line: Line, log: Log) -> bool:
        """Read a metric line, a validation, a bar, or a step that was set."""
        understood = held = self._lines.hold(line, log)
        for segment in line.segments[:-1] if held else line.segments:
            log.offset = segment.offset
            understood = self._read(segment, line.number, log) or understood
        self._lines.learn_prefix(line)
        self.more_open = bool(self._lines.held.body) or self._validation.first is not None
        return understood

    def settle(self, log: Log) -> None:
        """Show what is likely of a line that may go on, and forget the steps of a batch that nobody will ask for."""
        self._lines.show(log)
        self._lines.forget(self._validation.line if self._validation.first is not None else None)

    @property
    def is_unsure(self) -> bool:
        """Whether the last value of a metric line may have been cut."""
        return self._lines.is_unsure

    def pause(self, log: Log) -> None:
        """Show a metric line as it stands."""
        self._lines.show(log, as_it_stands=True)

    def _read(self, segment: Segment, number: int, log: Log) -> bool:
        """Read one segment."""
        body = segment.body
        if STEP.match(body):
            return self._lines.add(segment, number, log)
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
                self.bar_of_steps,
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
        held = self._lines.held
        if held.body and held.add(line):
            for segment in line.segments[1:]:  # a bar is glued to its end
                log.offset = segment.offset
                self._read(segment, line.number, log)
            return True
        if held.body and not held.waits_after(line):
            self._lines.end(log)
        belonged = self._more_of_validation(line, log)
        self.more_open = bool(held.body) or self._validation.first is not None
        return belonged

    def _more_of_validation(self, line: Line, log: Log) -> bool:
        """Collect more of a dictionary; what can't go on with it ends it, whatever of it is missing."""
        held = self._validation
        if held.first is None:
            return False
        ours = [segment for segment in line.segments if segment.origin == held.first.origin]
        goes_on = not ours or held.add(ours)
        if not goes_on or held.is_whole:
            self._validated(log)
        return bool(ours) and goes_on

    def finish(self, log: Log) -> None:
        """Add a metric line, and validation metrics, whose end is missing."""
        self._lines.end(log)
        self._validated(log)

    def _validated(self, log: Log) -> None:
        """Add the validation metrics that were collected, as the last step's; without an end they are counted."""
        held, segment = self._validation, self._validation.first
        if segment is None:
            return
        time, origin, step = segment.time, segment.origin, self._lines.step_before(held.line)
        is_closed, is_last = held.is_closed, held.is_last
        log.files[-1].num_missed_lines += not is_closed
        log.add_pairs(self.name, held.take(), line=held.line, step=step, time=time, origin=origin, axis="eval")
        if is_last and is_closed:
            log.add_event(self.name, "finish", line=held.line, time=time, origin=origin)

    def number(self, log: Log) -> None:
        """Give a validation the last step before it in its log, of which its reader read another part; else step 0."""
        logs = logs_of([facts.path for facts in log.files])
        file, step = -1, 0
        for entry in entries_of(log, self.name):
            if entry.file != file:
                step = step if file >= 0 and logs[file] == logs[entry.file] else 0
                file = entry.file
            if isinstance(entry, Row) and entry.step is None:
                entry.step = step
            elif isinstance(entry, Row) and not entry.axis:
                step = entry.step or 0
        super().number(log)

    def meaning(self, key: str) -> Meaning | None:
        """Return what a raw key is; validation sets have their names in their keys."""
        return meaning_of(key)
