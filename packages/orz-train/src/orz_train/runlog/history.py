"""What a run has measured so far, for the displays and the summary."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from orz_monitor.records import EventRecord, Record, StepRecord, read_records
from orz_train.runlog.events import accuracies, evaluation_metrics

_ETA_STEPS = 20


class History:
    """Series over the steps of a run, the later record of a step winning.

    Args:
        num_steps: of the whole run.
    """

    def __init__(self, num_steps: int) -> None:
        self.num_steps = num_steps
        self.lock = threading.RLock()
        """Held while records are added; a display that reads from another thread holds it, too."""
        self.last_step = 0
        """The last step that is done; steps count from 1."""
        self.seconds: dict[int, Mapping[str, float]] = {}
        self.evaluations: dict[int, dict[str, float]] = {}
        """Step to set to accuracy; step 0 is the model before any training."""
        self.checkpoint = ""
        """The newest one's path, relative to the run folder."""
        self._series: dict[str, dict[int, float]] = {}

    @classmethod
    def read(cls, path: Path, *, num_steps: int) -> History:
        """Read what earlier attempts of the run wrote to `metrics.jsonl`; empty where there is no file."""
        history = cls(num_steps)
        if path.exists():
            for line in read_records(path):
                if line.record is not None:
                    history.add(line.record)
        return history

    def add(self, record: Record) -> None:
        """Take one record, in the order of the file."""
        with self.lock:
            if isinstance(record, StepRecord):
                self._add_step(record)
            else:
                self._add_event(record)

    def series(self, name: str) -> list[float]:
        """Return a metric's values in step order."""
        return list(self._series.get(name, {}).values())

    def latest(self, *names: str) -> float | None:
        """Return the newest value of the first of these metrics that was ever measured."""
        for name in names:
            values = self._series.get(name)
            if values:
                return next(reversed(values.values()))
        return None

    @property
    def step_s(self) -> float | None:
        """Seconds that a step takes, from the latest ones; None before the first."""
        latest = self.step_seconds(first=max(1, self.last_step - _ETA_STEPS + 1))
        return mean(latest) if latest else None

    @property
    def eta_s(self) -> float | None:
        """Seconds to the end of the run, if steps go on to take what they take now."""
        return None if self.step_s is None else self.step_s * max(0, self.num_steps - self.last_step)

    def step_seconds(self, *, first: int = 1) -> list[float]:
        """Return the seconds of each step from `first` on that is known; step 0 is what came before the first."""
        return [_total(seconds) for step, seconds in self.seconds.items() if step >= first]

    def _add_step(self, record: StepRecord) -> None:
        self.last_step = record.step
        self.seconds[record.step] = record.seconds
        for name, value in record.metrics.items():
            self._series.setdefault(name, {})[record.step] = value
        self._add_evaluation(record.step, record.metrics)

    def _add_event(self, record: EventRecord) -> None:
        match record.event:
            case "start":
                self._drop_after(-1)
            case "resume" if record.step is not None:
                self._drop_after(record.step)
            case "evaluation" if record.step is not None:
                self._add_evaluation(record.step, evaluation_metrics(record.data))
            case "checkpoint_saved":
                self.checkpoint = str(record.data.get("path", ""))

    def _add_evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        found = accuracies(metrics)
        if found:
            self.evaluations.setdefault(step, {}).update(found)

    def _drop_after(self, step: int) -> None:
        """Forget steps that a restart has undone."""
        self.last_step = max(0, step)
        self.seconds = {known: value for known, value in self.seconds.items() if known <= step}
        self.evaluations = {known: value for known, value in self.evaluations.items() if known <= step}
        for name, values in self._series.items():
            self._series[name] = {known: value for known, value in values.items() if known <= step}


def mean(values: Sequence[float]) -> float:
    """Return the mean, also of values that aren't finite, where `statistics` would raise."""
    return sum(values) / len(values) if values else math.nan


def _total(seconds: Mapping[str, float]) -> float:
    return seconds["total"] if "total" in seconds else sum(seconds.values())
