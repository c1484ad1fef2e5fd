"""Progress as plain lines, for pipes and for terminals that can't move the cursor."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TextIO

from orz_monitor.records import EventRecord
from orz_train.runlog.events import level, sentence
from orz_train.runlog.history import History
from orz_train.runlog.text import above_noise, clock, duration, number, printable
from orz_train.types import StepReport

_WIDTH = 100
"""Columns of a step's line at most."""
_LEFT_OUT_FIRST = ("pg", "kl", "ev", "grad", "ent", "len")
"""What a line does without where it would grow too long, the least telling first."""


@dataclass(frozen=True, slots=True)
class _Column:
    """One number of a line: the first of `names` that was measured."""

    label: str
    names: tuple[str, ...]
    noisy: bool = False

    def shown(self, metrics: Mapping[str, float]) -> str:
        """Write label and value; empty if it was not measured."""
        value = next((metrics[name] for name in self.names if name in metrics), None)
        if value is None:
            return ""
        return f"{self.label} {number(above_noise(value) if self.noisy else value):<5}"


_COLUMNS = (
    _Column("reward", ("reward/mean",)),
    _Column("pg", ("policy/loss",), noisy=True),
    _Column("kl", ("policy/kl_ref", "policy/kl_old"), noisy=True),
    _Column("ent", ("policy/entropy",)),
    _Column("grad", ("policy/grad_norm",)),
    _Column("ev", ("critic/explained_var",)),
    _Column("len", ("rollout/response_tokens_mean",)),
)


class PlainLines:
    """Writes one line a step, and one for what happens between.

    A reader that goes away, such as `head`, ends the lines and not the run.

    Args:
        stream: usually stderr.
        history: of the run.
    """

    def __init__(self, stream: TextIO, history: History) -> None:
        self._stream = stream
        self._history = history
        self._gone = False

    def phase(self, name: str, done: int, total: int) -> None:
        """Say nothing: a line lasts, progress inside a step does not."""

    def step(self, report: StepReport) -> None:
        """Write `step 12/80  reward 0.412  pg 0  ent 0.457  grad 0.83  ev 0.43  len 8.1  1.3 s  eta 1:28`.

        Step 0 has no line: it is an evaluation.
        """
        if report.step == 0:
            return
        metrics = dict(report.metrics)
        if metrics.get("policy/updates") == 1:
            metrics.pop("policy/kl_old", None)  # 0 by definition: nothing has moved before the only update
        total = str(self._history.num_steps)
        seconds = report.seconds.get("total", sum(report.seconds.values()))
        shown = {column.label: text for column in _COLUMNS if (text := column.shown(metrics))}
        ends = [f"step {report.step:>{len(total)}}/{total}", duration(seconds), f"eta {clock(self._history.eta_s)}"]
        for label in _LEFT_OUT_FIRST:
            if len("  ".join([*shown.values(), *ends])) > _WIDTH:
                shown.pop(label, None)
        self._write("  ".join([ends[0], *shown.values(), *ends[1:]]))

    def event(self, record: EventRecord) -> None:
        """Write what happened."""
        self.note(level(record.event), sentence(record))

    def note(self, level: int, text: str) -> None:
        """Write a line, with its level from WARNING on."""
        label = f"{logging.getLevelName(level).lower()}: " if level >= logging.WARNING else ""
        self._write(label + printable(text))

    def close(self) -> None:
        """Leave the stream open; it isn't ours."""

    def _write(self, line: str) -> None:
        if self._gone:
            return
        try:
            encoding = self._stream.encoding or "utf-8"
            self._stream.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
            self._stream.flush()
        except (OSError, ValueError):  # a broken pipe, a closed stream
            self._gone = True
