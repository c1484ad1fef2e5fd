"""Checkpoints on their way to a store: a thread that copies them, and what it has to tell."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event, Lock, Thread

from orz_ckpt.copy.run import copy
from orz_ckpt.inventory import step_folder
from orz_ckpt.urls import redacted
from orz_cli.findings import Severity
from orz_train.checkpoint.copy_places import copy_url
from orz_train.checkpoint.failures import by_policy, message_and_remedy
from orz_train.config.checkpoint import Checkpoint
from orz_train.errors import CheckpointError, OrzError
from orz_train.ports import MetricSink
from orz_train.types import StepReport

_IN_THE_WAY = frozenset({"collect_conflict", "collect_differs"})
"""Findings that no later try changes: something else is there, or what is here is damaged."""


class StoppedError(BaseException):
    """A copy was told to stop. No `Exception`: nobody on its way tries again."""


class CopyJob:
    """Copies checkpoints one after the other, in a thread that doesn't keep the process alive.

    Args:
        run_dir: the run folder, absolute.
        settings: of checkpoints; `copy_to` is set, `on_failure` says what follows a failure.
        steps: that are committed in `run_dir`, in the order in which they are copied.
    """

    def __init__(self, run_dir: Path, settings: Checkpoint, steps: Sequence[int]) -> None:
        assert settings.copy_to is not None  # noqa: S101  else there is nothing to do
        self.run_dir = run_dir
        self.settings = settings
        self.copy_to = settings.copy_to
        self.steps = steps
        self.copied: set[int] = set()
        """Steps whose copies are whole; complete when the thread has ended."""
        self.failure: Exception | None = None
        """What is to end the run; set when the thread has ended."""
        self.told = Told()
        self.stop = Event()
        """Set it to end the thread at its next bytes."""
        self.step = steps[0]
        """That is under way."""
        self._heard = time.monotonic()
        self._done = self._total = 0
        self._lock = Lock()
        self.thread = Thread(target=self._run, name="checkpoint-copies", daemon=True)

    def percent(self) -> int:
        """Return how far the checkpoint is that is under way, 0 to 100."""
        with self._lock:
            return 100 * self._done // max(1, self._total)

    def silence_s(self) -> float:
        """Return for how many seconds the store has taken no bytes and refused none."""
        return time.monotonic() - self._heard

    def _run(self) -> None:
        """Copy all of them, until they are to stop."""
        with suppress(StoppedError):
            for step in self.steps:
                self._try(step)

    def _try(self, step: int) -> None:
        """Copy one as `on_failure` says; what fails for good doesn't keep the others from the store.

        After such a failure each of the others has one try: the store itself may be down.
        """
        settings = self.settings
        if self.failure is not None:
            settings = settings.model_copy(update={"on_failure": "raise"})
        self.step = step
        try:
            if by_policy(lambda _left: self._copy(step), settings, self.told, step=step, pause=self._pause):
                self.copied.add(step)
        except Exception as error:  # noqa: BLE001  the training loop raises it
            if self.failure is None:
                self.failure = error
            else:
                self.told.event("warning", step=step, message=str(error).partition("\n")[0])

    def _pause(self, seconds: float) -> None:
        """Wait before another try.

        Raises:
            StoppedError: no more are wanted.
        """
        if self.stop.wait(seconds):
            raise StoppedError

    def _copy(self, step: int) -> None:
        """Copy one checkpoint, verified by digest, its manifest last; at once where the same is there already.

        Raises:
            CheckpointError: the store refuses, holds something else there, or the folder here is damaged.
            StoppedError: it was told to stop.
        """
        self.count(0)
        folder, there = step_folder(self.run_dir, step), copy_url(self.copy_to, self.run_dir, step)
        begin = time.perf_counter()
        progress = _Progress(self, step)
        try:
            done = copy(str(folder), there, progress=progress)
        except (OrzError, OSError) as error:
            message, remedy = message_and_remedy(error)
            raise CheckpointError(f"step {step} was not copied: {message}", remedy=remedy) from error
        wrong = [finding for finding in done.findings if finding.severity is Severity.ERROR]
        if wrong:
            first = wrong[0]
            remedy = f"move {first.path} away" if first.code in _IN_THE_WAY else first.remedy
            raise CheckpointError(f"step {step} was not copied: {first.path}: {first.message}", remedy=remedy)
        if done.bytes:
            seconds = time.perf_counter() - begin
            facts = {"path": folder, "url": redacted(there), "bytes": done.bytes, "seconds": seconds}
            self.told.event("checkpoint_copied", step=step, **facts)

    def expect(self, step: int, nbytes: int) -> None:
        """Hear how many bytes of a checkpoint are to come: none where its copy is whole."""
        with self._lock:
            self._done, self._total = 0, nbytes
        if nbytes:
            folder, there = step_folder(self.run_dir, step), redacted(copy_url(self.copy_to, self.run_dir, step))
            self.told.event("checkpoint_copy_started", step=step, path=folder, url=there, bytes=nbytes)

    def count(self, nbytes: int) -> None:
        """Hear that bytes have arrived, or that the store has answered.

        Raises:
            StoppedError: no more are wanted.
        """
        with self._lock:
            self._done += nbytes
        self._heard = time.monotonic()
        if self.stop.is_set():
            raise StoppedError


class Told:
    """A sink that keeps what a thread says until the training loop records it: a log has one writer."""

    def __init__(self) -> None:
        self._events: SimpleQueue[tuple[str, int | None, dict[str, object]]] = SimpleQueue()

    def phase(self, name: str, done: int, total: int) -> None:
        """Forget progress."""

    def write(self, report: StepReport) -> None:
        """Forget a report; a copy makes none."""

    def event(self, name: str, *, step: int | None = None, **data: object) -> None:
        """Keep an event."""
        self._events.put((name, step, data))

    def pass_on(self, sink: MetricSink) -> None:
        """Tell `sink` all that was kept."""
        while True:
            try:
                name, step, data = self._events.get_nowait()
            except Empty:
                return
            sink.event(name, step=step, **data)


class _Progress:
    """Tells a job how far the copy of a step is."""

    def __init__(self, job: CopyJob, step: int) -> None:
        self._job, self._step = job, step

    def add_total(self, nbytes: int) -> None:
        """Expect `nbytes`."""
        self._job.expect(self._step, nbytes)

    def advance(self, nbytes: int) -> None:
        """Count `nbytes`."""
        self._job.count(nbytes)
