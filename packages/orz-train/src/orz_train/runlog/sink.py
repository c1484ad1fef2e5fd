"""The run log: one sink, composed of what writes for tools and what shows people."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, TextIO

from rich.console import Console

from orz_monitor.records import EventRecord, StepRecord
from orz_train.errors import OrzError, UsageError
from orz_train.runlog import orz_lines
from orz_train.runlog.console import ConsoleLog, listening
from orz_train.runlog.display import Display, Notes
from orz_train.runlog.environment import write_environment
from orz_train.runlog.errors import LogWriteError
from orz_train.runlog.events import evaluation_metrics, jsonable, level
from orz_train.runlog.folder import RunFolder
from orz_train.runlog.history import History
from orz_train.runlog.live import LiveDisplay, can_show
from orz_train.runlog.metrics import MetricsFile
from orz_train.runlog.names import NameCheck
from orz_train.runlog.plain import PlainLines
from orz_train.runlog.summary import Answers, summary
from orz_train.runlog.tensorboard import TensorBoardLog
from orz_train.types import StepReport

DisplayKind = Literal["auto", "live", "plain"]
_ENDINGS = {"finish": "finished", "interrupted": "interrupted", "error": "failed"}


class RunLog:
    """The `MetricSink` of a run: a context manager, whose files are open inside the context.

    Steps count from 1; a report of step 0 holds an evaluation before any training. `write` is durable: when it
    returns, the record is on the disk. An exception that leaves the context is recorded as the event `error`,
    Ctrl-C as `interrupted`. Progress goes to `stderr`, and at the end a summary to `stdout`, unless the run has
    failed.

    Args:
        folder: of the run, open.
        num_steps: of the whole run.
        steps_per_episode: of one pass over the prompts; the whole run by default.
        display: `live` on a terminal, `plain` lines in a pipe; `auto` looks at `stderr`.
        stdout: the process's by default.
        stderr: the process's by default.
        now: returns seconds since the Unix epoch.
        strict: raise for a metric name that isn't registered, instead of one warning.

    Raises:
        LogWriteError: a file can't be written; those that were opened are closed.
    """

    def __init__(
        self,
        folder: RunFolder,
        *,
        num_steps: int,
        steps_per_episode: int | None = None,
        display: DisplayKind = "auto",
        stdout: TextIO | None = None,
        stderr: TextIO | None = None,
        now: Callable[[], float] = time.time,
        strict: bool = False,
    ) -> None:
        self._folder = folder
        self._config = folder.config
        self._num_steps = num_steps
        self._steps_per_episode = steps_per_episode or num_steps
        self._stdout = sys.stdout if stdout is None else stdout
        self._now = now
        self._names = NameCheck(strict=strict)
        self._ending = ""
        self._closed = False
        self._recorded = False
        self._evaluated: set[int] = set()
        self._answers = Answers()
        with ExitStack() as opened:
            self._history = _history(folder, num_steps)
            self._metrics = MetricsFile(folder.metrics_file)
            opened.callback(self._metrics.close)
            self._console = ConsoleLog(folder.console_file)
            opened.callback(self._console.close)
            self._tensorboard = TensorBoardLog(folder.tensorboard) if self._config.logging.tensorboard else None
            if self._tensorboard is not None:
                opened.callback(self._tensorboard.close)
            self._display = _display(display, sys.stderr if stderr is None else stderr, folder, self._history)
            opened.callback(self._display.close)
            opened.enter_context(listening(self._console, Notes(self._display)))
            self._say_what_changed()
            self._opened = opened.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
            return
        with suppress(LogWriteError):  # perhaps the very one that ends the run
            if not self._ending:
                self._record_end(error)
        with suppress(LogWriteError):
            self.close()

    def phase(self, name: str, done: int, total: int) -> None:
        """Show progress inside a step; `name` is one of `orz_monitor.records.PHASES`."""
        self._display.phase(name, done, total)

    def write(self, report: StepReport) -> None:
        """Record one step.

        Raises:
            LogWriteError: a file can't be written, such as on a full disk.
            UnregisteredMetricError: a name isn't registered, in strict mode.
        """
        for problem in self._names.new_problems(metrics=report.metrics, phases=report.seconds):
            self._event("warning", report.step, {"message": problem})
        record = StepRecord(
            step=report.step,
            time=self._now(),
            metrics=report.metrics,
            seconds=report.seconds,
            policy_version=report.policy_version,
        )
        self._metrics.write(record)
        self._recorded = True
        self._history.add(record)
        if self._tensorboard is not None:
            self._tensorboard.write(record)
        self._write_rollouts(report)
        self._answers.add(report)
        if report.step:
            self._write_orz_lines(report)
        self._display.step(report)
        self._show_evaluation(report.step, report.metrics)
        self._console.check()

    def event(self, name: str, *, step: int | None = None, **data: object) -> None:
        """Record something that happened.

        Readers know `start`, `resume` (step: the last one done before; path), `checkpoint_saved` (path, bytes,
        seconds), `checkpoint_copied` (the same, and url), `evaluation` (metrics), `skipped_update` (role, reason),
        `warning` (message), `prompts_too_long` (count), `finish` (reason) and `error` (message). `start` gets recipe,
        steps and the hash of the configuration by itself.

        Raises:
            LogWriteError: a file can't be written.
            UnregisteredMetricError: an evaluation has a name that isn't registered, in strict mode.
        """
        self._event(name, step, data, stacklevel=2)

    def environment(self, ran_on: Mapping[str, str]) -> None:
        """Write `environment.json`; warn of what has changed since this run last did.

        Args:
            ran_on: part of the run to what really runs it.

        Raises:
            LogWriteError: the file can't be written.
        """
        changes = write_environment(self._folder.environment_file, backends=ran_on)
        if changes:
            self._event("warning", None, {"message": f"the environment changed: {', '.join(changes)}"})

    def close(self) -> None:
        """Leave the terminal, close the files and write the summary; a second call does nothing.

        Raises:
            LogWriteError: what was still to be written couldn't be.
        """
        if self._closed:
            return
        self._closed = True
        self._opened.close()
        self._console.check()
        if self._ending != "error" and self._history.last_step:
            self._write_summary()

    def _event(self, name: str, step: int | None, data: Mapping[str, object], *, stacklevel: int = 1) -> None:
        if name == "start":
            of_run = {"recipe": self._config.name, "steps": self._num_steps}
            data = {**of_run, "config_sha256": self._folder.config_sha256, **data}
        if isinstance(data.get("path"), str):
            data = {**data, "path": Path(str(data["path"]))}  # so that it becomes relative to the run folder
        self._ending = name if name in _ENDINGS else self._ending
        plain = {key: jsonable(value, folder=self._folder.path) for key, value in data.items()}
        metrics = evaluation_metrics(plain) if name == "evaluation" else {}
        for problem in self._names.new_problems(metrics=metrics):
            self._event("warning", step, {"message": problem})
        record = EventRecord(event=name, time=self._now(), step=step, data=plain)
        self._metrics.write(record)
        self._recorded = True
        self._history.add(record)
        if self._tensorboard is not None:
            if name in {"start", "resume"}:
                self._tensorboard.begin_after(-1 if name == "start" or step is None else step)
            if metrics and step is not None:
                self._tensorboard.scalars(metrics, step=step, time=record.time)
        where = {} if step is None else {"step": step}
        if metrics and step is not None:
            self._show_evaluation(step, metrics)
        else:
            self._console.say(name, level=level(name), data={**where, **plain}, stacklevel=stacklevel + 1)
            if name != "error":  # whoever catches it says it
                self._display.event(record)
        self._console.check()

    def _record_end(self, error: BaseException) -> None:
        """Record why the run ends before its time; only what nobody foresaw leaves a traceback in the log."""
        step = self._history.last_step
        if isinstance(error, UsageError) and not self._recorded:
            return  # nothing has begun, and a new folder goes away
        if isinstance(error, KeyboardInterrupt):
            self._event("interrupted", step, {})
            return
        self._event("error", step, {"message": error.message if isinstance(error, OrzError) else error})
        if not isinstance(error, OrzError):
            self._console.say("the run failed", level=logging.ERROR, error=error)

    def _say_what_changed(self) -> None:
        """Warn of settings that are not as they were when this run last wrote."""
        changes = [f"{change.key}: {change.old} -> {change.new}" for change in self._folder.changes]
        for message in (self._folder.notice, f"settings changed: {', '.join(changes)}" if changes else ""):
            if message:
                self._event("warning", None, {"message": message})

    def _show_evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        """Show an evaluation once, whether it came as an event, within a step's metrics, or both."""
        found = {name: value for name, value in metrics.items() if name.startswith("eval/")}
        if not found or step in self._evaluated:
            return
        self._evaluated.add(step)
        self._console.say(orz_lines.evaluation(self._history.evaluations.get(step, {})))
        self._display.event(EventRecord(event="evaluation", time=self._now(), step=step, data={"metrics": found}))

    def _write_orz_lines(self, report: StepReport) -> None:
        """Write a step to the console log, in the order in which ORZ does."""
        config, console = self._config, self._console
        console.say(orz_lines.rollout_summary(report.metrics))
        for timer in orz_lines.timers(report.seconds):
            console.say(timer)
        bars = [orz_lines.actor_bar(report, epochs=config.policy.epochs_per_step)]
        if config.critic is not None:
            bars.insert(0, orz_lines.critic_bar(report, epochs=config.critic.epochs_per_step))
        for bar in filter(None, bars):
            console.line(bar)
        console.say(orz_lines.status(report))
        first = (report.step - 1) // self._steps_per_episode * self._steps_per_episode + 1
        seconds = self._history.step_seconds(first=first)
        console.line(
            orz_lines.episode_bar(
                report.step,
                num_steps=self._num_steps,
                steps_per_episode=self._steps_per_episode,
                elapsed_s=sum(seconds),
                num_timed=len(seconds),
            )
        )

    def _write_rollouts(self, report: StepReport) -> None:
        """Write the samples of every so many steps, of the first and the last one, and of every evaluation."""
        every, most = self._config.logging.rollouts_every_steps, self._config.logging.rollouts_max
        due = every and (report.step % every == 0 or report.step in {1, self._num_steps})
        for kind, samples in (("step", report.samples if due else ()), ("eval", report.eval_samples if every else ())):
            if samples:
                from orz_train.runlog.rollouts import write_rollouts  # noqa: PLC0415  pyarrow takes its time

                write_rollouts(self._folder.rollouts, report.step, samples, max_rows=most, kind=kind)

    def _write_summary(self) -> None:
        encoding = self._stdout.encoding or "utf-8"
        text = summary(
            self._history,
            title=f"{self._config.name} {_ENDINGS.get(self._ending, 'stopped')}",
            folder=self._folder.path,
            log=self._folder.console_file,
            answers=self._answers.pair,
            ascii_only="utf" not in encoding.lower(),
        )
        console = Console(file=self._stdout, highlight=False)
        with console.capture() as captured:  # styles on a terminal, none elsewhere
            console.print(text, soft_wrap=True, end="")
        shown = captured.get()
        with suppress(OSError, ValueError):  # nobody reads on
            self._stdout.write(shown.encode(encoding, "backslashreplace").decode(encoding))
            self._stdout.flush()


def _history(folder: RunFolder, num_steps: int) -> History:
    try:
        return History.read(folder.metrics_file, num_steps=num_steps)
    except OSError as error:
        raise LogWriteError.of(folder.metrics_file, error) from error


def _display(kind: DisplayKind, stream: TextIO, folder: RunFolder, history: History) -> Display:
    if kind == "live" or (kind == "auto" and can_show(stream)):
        name, here = folder.config.name, folder.path.name
        return LiveDisplay(stream, here if here.startswith(name) else f"{name} in {here}", history)
    return PlainLines(stream, history)
