"""Progress as plain lines, for pipes and for terminals that can't move the cursor."""

from __future__ import annotations

import logging
from typing import TextIO

from orz_monitor.records import EventRecord
from orz_train.runlog.events import level, sentence
from orz_train.runlog.history import History
from orz_train.runlog.text import clock, duration, number, printable
from orz_train.types import StepReport

_COLUMNS = {
    "reward": ("reward/mean",),
    "pg": ("policy/loss",),
    "kl": ("policy/kl_ref", "policy/kl_old"),
    "ent": ("policy/entropy",),
    "len": ("rollout/response_tokens_mean",),
}


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
        """Write `step 12/80  reward 0.412  pg -0.013  kl 0  ent 0.457  len 8.10  1.3 s  eta 1:28`; step 0 has none."""
        if report.step == 0:
            return
        total = str(self._history.num_steps)
        parts = [f"step {report.step:>{len(total)}}/{total}"]
        for label, names in _COLUMNS.items():
            value = next((report.metrics[name] for name in names if name in report.metrics), None)
            if value is not None:
                parts.append(f"{label} {number(value):<5}")
        seconds = report.seconds.get("total", sum(report.seconds.values()))
        parts += [duration(seconds), f"eta {clock(self._history.eta_s)}"]
        self._write("  ".join(parts))

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
