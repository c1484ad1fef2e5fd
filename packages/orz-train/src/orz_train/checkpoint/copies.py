"""Copies of a run's checkpoints in a store, made while training goes on."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from orz_ckpt.urls import redacted
from orz_train.checkpoint.copying import CopyJob
from orz_train.config.checkpoint import Checkpoint
from orz_train.ports import MetricSink

LOOK_EVERY_S = 0.2
GIVE_UP_S = 10.0
"""How long to wait for a copy that was told to stop: a store that doesn't answer must not hold up Ctrl-C."""


class Copies:
    """Brings committed checkpoints to `checkpoint.copy_to`, oldest first.

    A step is `waiting` until its copy is known to be whole; until then its folder must stay. What failed goes on
    waiting, and is tried again with the next checkpoint, or at the next start of the run.

    The training loop alone calls this; what the thread of a copy has to tell is recorded when it does.

    Args:
        run_dir: the run folder, absolute.
        settings: of checkpoints; without `copy_to` nothing is ever done.
        sink: is told of every copy and of every failure.
    """

    def __init__(self, run_dir: Path, settings: Checkpoint, sink: MetricSink) -> None:
        self.run_dir = run_dir
        self.settings = settings
        self.sink = sink
        self.waiting: set[int] = set()
        self._job: CopyJob | None = None

    def start(self, steps: Iterable[int]) -> None:
        """Begin to copy the checkpoints of these steps, and what is waiting; call `wait` before."""
        if self.settings.copy_to is None:
            return
        assert self._job is None  # noqa: S101  a save waits for the copies before it begins
        self.waiting |= set(steps)
        if self.waiting:
            self._job = CopyJob(self.run_dir, self.settings, sorted(self.waiting))
            self._job.thread.start()

    def look(self) -> Exception | None:
        """Record what has happened since; return a failure that is to end the run, once."""
        job = self._job
        if job is None:
            return None
        ended = not job.thread.is_alive()  # asked before its last words are read
        job.told.pass_on(self.sink)
        if not ended:
            return None
        self._job = None
        self.waiting -= job.copied
        return job.failure

    def wait(self) -> Exception | None:
        """Wait for what is under way, showing how far it is; return as `look`."""
        try:
            while self._job is not None and self._job.thread.is_alive():
                self.sink.phase("save", self._job.percent(), 100)
                self._job.told.pass_on(self.sink)
                self._job.thread.join(LOOK_EVERY_S)
        except BaseException:  # Ctrl-C: at the end of a run nobody else would stop the copy
            self.give_up()
            raise
        return self.look()

    def give_up(self) -> None:
        """Stop what is under way, and say so; the next start of the run goes on with it."""
        job = self._job
        if job is None:
            return
        job.stop.set()
        job.thread.join(GIVE_UP_S)
        self.look()
        self._job = None
        if self.waiting:
            steps = ", ".join(str(step) for step in sorted(self.waiting))
            message = f"step {steps} is not copied to {redacted(job.url)} yet; the next start of this run goes on"
            self.sink.event("warning", message=message)
