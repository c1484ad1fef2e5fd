"""Checkpoints on their way to a store: a thread that copies them, and what it has to tell."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event, Lock, Thread

from orz_ckpt.copy.run import copy
from orz_ckpt.inventory import CHECKPOINTS_DIR, step_folder
from orz_ckpt.urls import redacted
from orz_cli.findings import Severity
from orz_train.checkpoint.failures import by_policy
from orz_train.config.checkpoint import Checkpoint
from orz_train.errors import CheckpointError, OrzError
from orz_train.ports import MetricSink
from orz_train.types import StepReport


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
        self.url = copies_url(settings.copy_to, run_dir)
        self.steps = steps
        self.copied: set[int] = set()
        """Steps whose copies are whole; complete when the thread has ended."""
        self.failure: Exception | None = None
        """What is to end the run; set when the thread has ended."""
        self.told = Told()
        self.stop = Event()
        """Set it to end the thread at its next bytes."""
        self._done = self._total = 0
        self._lock = Lock()
        self.thread = Thread(target=self._run, name="checkpoint-copies", daemon=True)

    def percent(self) -> int:
        """Return how far the checkpoint is that is under way, 0 to 100."""
        with self._lock:
            return 100 * self._done // max(1, self._total)

    def _run(self) -> None:
        """Copy all of them, until one fails for good or they are to stop."""
        try:
            for step in self.steps:
                # bound at once: the loop waits for it
                if by_policy(lambda step=step: self._copy(step), self.settings, self.told, step=step):  # type: ignore[misc]  # mypy can't tell its type
                    self.copied.add(step)
        except StoppedError:
            return
        except Exception as error:  # noqa: BLE001  the training loop raises it
            self.failure = error

    def _copy(self, step: int) -> None:
        """Copy one checkpoint, verified by digest, its manifest last; at once where the same is there already.

        Raises:
            CheckpointError: the store refuses, holds something else there, or the folder here is damaged.
            StoppedError: it was told to stop.
        """
        folder = step_folder(self.run_dir, step)
        there = f"{self.url}/{CHECKPOINTS_DIR}/{folder.name}"
        begin = time.perf_counter()
        progress = _Progress(self, step)
        try:
            done = copy(str(folder), there, progress=progress)
        except (OrzError, OSError) as error:
            message, remedy = (error.message, error.remedy) if isinstance(error, OrzError) else (str(error), "")
            raise CheckpointError(f"step {step} was not copied: {message}", remedy=remedy) from error
        wrong = [finding for finding in done.findings if finding.severity is Severity.ERROR]
        if wrong:
            raise CheckpointError(
                f"step {step} was not copied: {wrong[0].path}: {wrong[0].message}", remedy=wrong[0].remedy
            )
        if done.bytes:
            seconds = time.perf_counter() - begin
            facts = {"path": folder, "url": redacted(there), "bytes": done.bytes, "seconds": seconds}
            self.told.event("checkpoint_copied", step=step, **facts)

    def expect(self, step: int, nbytes: int) -> None:
        """Hear how many bytes of a checkpoint are to come: none where its copy is whole."""
        with self._lock:
            self._done, self._total = 0, nbytes
        if nbytes:
            folder = step_folder(self.run_dir, step)
            there = f"{redacted(self.url)}/{CHECKPOINTS_DIR}/{folder.name}"
            self.told.event("checkpoint_copy_started", step=step, path=folder, url=there, bytes=nbytes)

    def count(self, nbytes: int) -> None:
        """Hear that bytes have arrived.

        Raises:
            StoppedError: no more are wanted.
        """
        with self._lock:
            self._done += nbytes
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


def copies_url(copy_to: str, run_dir: Path) -> str:
    """Return where the copies of a run are: a folder of the run folder's name."""
    return f"{copy_to.rstrip('/')}/{run_dir.name}"
