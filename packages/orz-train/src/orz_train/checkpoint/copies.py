"""Copies of a run's checkpoints in a store, made while training goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from orz_ckpt.urls import redacted
from orz_train.checkpoint.copy_places import copies_url, copy_url
from orz_train.checkpoint.copying import CopyJob
from orz_train.config.checkpoint import Checkpoint
from orz_train.errors import CheckpointError
from orz_train.limits import NO_LIMIT, Limit
from orz_train.ports import MetricSink

LOOK_EVERY_S = 0.2
SILENT_S = 300.0
"""After how long without bytes, and how often again, a save that waits for a copy says so."""
LONGEST_SILENCE_S = 1800.0
"""After how long without bytes a copy has failed: some stores' libraries wait for ever."""
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
        check: looks, while a copy is waited for, whether the models are well; raises if they aren't.
    """

    def __init__(
        self, run_dir: Path, settings: Checkpoint, sink: MetricSink, *, check: Callable[[], None] = lambda: None
    ) -> None:
        self.check = check
        self.run_dir = run_dir
        self.settings = settings
        self.sink = sink
        self.waiting: set[int] = set()
        self._job: CopyJob | None = None
        self._silent: CopyJob | None = None
        """A job that was given up and may still write: none begins beside it."""
        self._added = self._closed = False

    def add(self, steps: Iterable[int]) -> None:
        """Take the checkpoints of these steps, which are committed: `start` begins to copy them."""
        if self.settings.copy_to is not None:
            self.waiting |= set(steps)
            self._added = True

    def start(self) -> None:
        """Begin to copy what is waiting, if anything was added since; not while another copy is under way."""
        if not self._added or self._closed or self._job is not None:
            return
        self._added = False
        if self._silent is not None and self._silent.thread.is_alive():
            self.sink.event("warning", message=f"{self._not_copied()}: the store still doesn't answer")
        elif self.waiting:
            self._job = CopyJob(self.run_dir, self.settings, sorted(self.waiting))
            self._job.thread.start()

    def look(self) -> Exception | None:
        """Record what has happened since; return a failure that is to end the run, once: no copy begins after it."""
        job = self._job
        if job is None:
            return None
        ended = not job.thread.is_alive()  # asked before its last words are read
        job.told.pass_on(self.sink)
        if not ended:
            return None
        self._job = None
        self.waiting -= job.copied
        self._closed |= job.failure is not None
        return job.failure

    def wait(self) -> Exception | None:
        """Wait for what is under way, showing how far it is; return as `look`.

        A store that neither answers nor fails is warned of, and is a failure at last.

        Raises:
            OrzError: meanwhile a process of the models has ended; whoever ends the run gives the copy up.
        """
        warned = 0
        while self._job is not None and self._job.thread.is_alive():
            self.sink.phase("save", self._job.percent(), 100)
            self._job.told.pass_on(self.sink)
            silence = self._job.silence_s()
            if silence >= LONGEST_SILENCE_S:
                return self._abandon(self._job, silence)
            if silence // SILENT_S > warned:
                message = f"{_unanswered(self._job, silence)}; the run waits for it"
                self.sink.event("warning", step=self._job.step, message=message)
            warned = int(silence // SILENT_S)
            self._job.thread.join(LOOK_EVERY_S)
            self.check()
        return self.look()

    def close(self) -> None:
        """Begin no more copies, and let the one under way stop: the run is about to end."""
        self._closed = True
        if self._job is not None:
            self._job.stop.set()

    def give_up(self, limit: Limit = NO_LIMIT) -> None:
        """Stop what is under way, and say so; the next start of the run goes on with it.

        Args:
            limit: of a run that ends, for all that it has still to do.
        """
        self.close()
        job, failed = self._job, None
        if job is not None:
            job.thread.join(limit.at_most(GIVE_UP_S))
            failed = self.look()
            self._let_go(job)
        if self.waiting:
            reason = str(failed).partition("\n")[0]
            because = f" ({reason})" if failed is not None else ""
            self.sink.event("warning", message=f"{self._not_copied()}{because}; the next start of this run goes on")

    def _abandon(self, job: CopyJob, silence: float) -> Exception | None:
        """Give a job up whose store doesn't answer; return as `look`. Its thread can't be ended, only told to stop."""
        job.stop.set()
        self._let_go(job)
        self._silent = job
        failure = CheckpointError(
            f"step {job.step} was not copied: {_unanswered(job, silence)}",
            remedy="look at the store and the network, then start again: the run goes on with the copy",
        )
        if self.settings.on_failure == "warn":
            message = f"{failure.message}; the run goes on without it"
            self.sink.event("warning", step=job.step, message=message, remedy=failure.remedy)
            return None
        self.close()
        return job.failure or failure

    def _let_go(self, job: CopyJob) -> None:
        """Wait for a job no longer; what it has copied is copied."""
        self.waiting -= set(job.copied)
        self._job = None

    def _not_copied(self) -> str:
        """Say which steps have no copy."""
        assert self.settings.copy_to is not None  # noqa: S101  else nothing ever waits
        steps = ", ".join(str(step) for step in sorted(self.waiting))
        return f"step {steps} is not copied to {redacted(copies_url(self.settings.copy_to, self.run_dir))} yet"


def _unanswered(job: CopyJob, silence: float) -> str:
    """Say which store doesn't answer, and for how long."""
    return f"{redacted(copy_url(job.copy_to, job.run_dir, job.step))} has taken no bytes for {silence / 60:.0f} minutes"
