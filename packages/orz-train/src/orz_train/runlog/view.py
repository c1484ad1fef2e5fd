"""The picture of a run: what `live` draws again and again."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from orz_monitor.records import PHASES, EventRecord
from orz_train.runlog.events import level, sentence
from orz_train.runlog.history import History, mean
from orz_train.runlog.sparkline import sparkline
from orz_train.runlog.summary import Answer
from orz_train.runlog.text import above_noise, clock, duration, number, printable, shortened, signed
from orz_train.types import StepReport

_NUM_NOTES = 4
_NARROW = 60
"""Columns below which changes and the shares of phases are left out."""
_CHANGE_STEPS = 5
_VALUE_WIDTH = 8
_RESPONSE_LINES = 2
_ENDINGS = {"finish": "finished", "interrupted": "interrupted"}
_LEVEL_STYLES = {logging.WARNING: "yellow", logging.ERROR: "bold red", logging.CRITICAL: "bold red"}


@dataclass(frozen=True, slots=True)
class _Row:
    """One metric of the picture: the first of `names` that was ever measured."""

    label: str
    names: tuple[str, ...]
    better: Literal["up", "down", ""] = ""
    noisy: bool = False
    """Whether a tiny value is rounding error, which a curve would blow up."""


_ROWS = (
    _Row("reward", ("reward/mean",), "up"),
    _Row("pg", ("policy/loss",), noisy=True),
    _Row("kl to reference", ("policy/kl_ref",), noisy=True),
    _Row("kl to old policy", ("policy/kl_old",), noisy=True),
    _Row("entropy", ("policy/entropy",)),
    _Row("response tokens", ("rollout/response_tokens_mean",)),
    _Row("truncated", ("rollout/truncated_frac",), "down"),
    _Row("explained variance", ("critic/explained_var",), "up"),
    _Row("learning rate", ("policy/lr",)),
)


class RunView:
    """Draws the state of a run at any width from 40 columns and any height from 8 lines.

    From the top: where the run stands, what it does now, the curves, the evaluation, a sampled answer, and what
    has happened. Where the height is small, the lower parts go first.

    Args:
        title: the run's name.
        history: of the run; read, never changed.
        monotonic: returns seconds, for the time that the present phase has taken.
    """

    def __init__(self, title: str, history: History, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._title = title
        self._history = history
        self._monotonic = monotonic
        self._phase = ("starting", 0, 0)
        self._phase_began = monotonic()
        self._step_began = monotonic()
        self._answer: Answer | None = None
        self._notes: deque[tuple[int, str]] = deque(maxlen=_NUM_NOTES)

    def phase(self, name: str, done: int, total: int) -> None:
        """Take progress inside a step."""
        if name != self._phase[0]:
            self._phase_began = self._monotonic()
        self._phase = (name, done, total)

    def step(self, report: StepReport) -> None:
        """Take a step that is done."""
        self._phase = ("between steps", 0, 0)
        self._phase_began = self._step_began = self._monotonic()
        if report.samples:
            self._answer = Answer.of(report.samples[0], when=f"sampled in step {report.step}")

    def event(self, record: EventRecord) -> None:
        """Take something that happened; the evaluation has a place of its own."""
        if record.event in _ENDINGS:
            self._phase = (_ENDINGS[record.event], 0, 0)
        if record.event not in {"start", "evaluation", *_ENDINGS}:
            self.note(level(record.event), sentence(record))

    def note(self, level: int, text: str) -> None:
        """Take a line to show."""
        self._notes.append((level, printable(text)))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        ascii_only = options.ascii_only
        width = options.max_width
        inner = width - 2
        parts: list[RenderableType] = [self._header(), self._progress(inner), self._now(inner)]
        parts += self._shares() if inner >= _NARROW else []
        rows = self._rows(inner, ascii_only=ascii_only)
        parts += [Text(""), rows] if rows.row_count else []
        for section in (self._evaluations(), self._sample(inner), self._events()):
            if section:
                parts += [Text(""), *section]
        lines = console.render_lines(Padding(Group(*parts), (0, 1)), options, pad=False)
        # A live display that is taller than its terminal can't be drawn over.
        for line in lines[: max(1, console.height - 1)]:
            yield from line
            yield Segment.line()

    def _header(self) -> RenderableType:
        history = self._history
        line = Table.grid(expand=True, padding=(0, 1))
        line.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        line.add_column(justify="right", no_wrap=True)
        eta = None if history.eta_s is None else max(0.0, history.eta_s - (self._monotonic() - self._step_began))
        stand = Text.assemble(
            ("step ", "dim"), (f"{history.last_step}/{history.num_steps}", "bold"), ("  eta ", "dim"), clock(eta)
        )
        line.add_row(Text(self._title, "bold cyan"), stand)
        return line

    def _progress(self, width: int) -> RenderableType:
        history = self._history
        line = Table.grid()  # a bar by itself doesn't end its line
        line.add_row(ProgressBar(total=history.num_steps, completed=history.last_step, width=width))
        return line

    def _now(self, width: int) -> RenderableType:
        """Draw the phase that is running."""
        name, done, total = self._phase
        line = Table.grid(expand=True, padding=(0, 2))
        for ratio in (None, None, None, 1):
            line.add_column(no_wrap=True, overflow="ellipsis", ratio=ratio)
        shown: list[RenderableType] = [Text(name, "green"), "", "", ""]
        if name in PHASES:
            since = f"{PHASES[name]}  {duration(self._monotonic() - self._phase_began)}"
            shown[3] = Text(since, "dim")
        if total > 1:
            shown[1:3] = ProgressBar(total=total, completed=done, width=max(8, width // 5)), f"{done}/{total}"
        line.add_row(*shown)
        return line

    def _shares(self) -> list[RenderableType]:
        """Say what the last step was spent on."""
        seconds = self._history.seconds.get(self._history.last_step, {})
        total = seconds.get("total", 0.0)
        if not total > 0:
            return []
        largest = sorted((-spent / total, phase) for phase, spent in seconds.items() if phase != "total")
        shares = ", ".join(f"{phase} {-share:.0%}" for share, phase in largest)
        return [Text(f"{duration(total)} a step: {shares}", "dim", no_wrap=True, overflow="ellipsis")]

    def _rows(self, width: int, *, ascii_only: bool) -> Table:
        shown = [row for row in _ROWS if self._history.latest(*row.names) is not None]
        labels = max((len(row.label) for row in shown), default=0)
        wide = width >= _NARROW
        left = width - labels - 2 - _VALUE_WIDTH - 2 - (_VALUE_WIDTH + 2 if wide else 0)
        spark_width = max(4, min(left, self._history.num_steps))
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim", no_wrap=True, overflow="ellipsis", width=labels)
        table.add_column(justify="right", no_wrap=True, width=_VALUE_WIDTH)
        table.add_column(no_wrap=True, style="cyan", width=spark_width)
        if wide:
            table.add_column(justify="right", no_wrap=True, width=_VALUE_WIDTH)
        for row in shown:
            values = next(series for name in row.names if (series := self._history.series(name)))
            values = [above_noise(value) for value in values] if row.noisy else values
            style = "bold" if math.isfinite(values[-1]) else "bold red"
            cells = [
                Text(row.label),
                Text(number(values[-1]), style),
                Text(sparkline(values, spark_width, ascii_only=ascii_only)),
            ]
            table.add_row(*cells, *([_change(values, row.better)] if wide else []))
        return table

    def _evaluations(self) -> list[RenderableType]:
        """Say how each held-out set began and where it is."""
        found = sorted(self._history.evaluations.items())
        lines: list[RenderableType] = []
        for name in sorted({name for _, accuracies in found for name in accuracies}):
            values = [(step, accuracies[name]) for step, accuracies in found if name in accuracies]
            line = Text.assemble(("eval ", "dim"), printable(name), "  ", no_wrap=True, overflow="ellipsis")
            for step, accuracy in dict.fromkeys((values[0], values[-1])):
                line.append("  ").append(number(accuracy), "bold").append(f" after step {step}", "dim")
            lines.append(line)
        return lines

    def _sample(self, width: int) -> list[RenderableType]:
        answer = self._answer
        if answer is None:
            return []
        title = Text.assemble((answer.when, "dim"), "  ", ("reward ", "dim"), (number(answer.reward), "bold"))
        return [
            title,
            Text(shortened(answer.prompt, width), "italic", no_wrap=True),
            Text(shortened(answer.response, _RESPONSE_LINES * width)),
        ]

    def _events(self) -> list[RenderableType]:
        return [
            Text(text, _LEVEL_STYLES.get(level, "dim"), no_wrap=True, overflow="ellipsis")
            for level, text in self._notes
        ]


def _change(values: list[float], better: str) -> Text:
    """Compare the mean of the last values with the mean of the first, of equally many."""
    num = min(_CHANGE_STEPS, len(values) // 2)
    if not num:
        return Text("")
    difference = mean(values[-num:]) - mean(values[:num])
    good = {"up": difference > 0, "down": difference < 0}.get(better)
    if not difference:
        return Text("")
    return Text(signed(difference), {True: "green", False: "yellow", None: "dim"}[good])
