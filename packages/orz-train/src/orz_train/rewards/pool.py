"""Runs reward functions in processes that can be killed, so that no response stops a run."""

from __future__ import annotations

import multiprocessing
import pickle
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pebble import ProcessExpired, ProcessPool

from orz_train.config.rollouts import Reward
from orz_train.rewards import worker
from orz_train.rewards.base import error_score
from orz_train.types import FinishReason, Prompt, Rollout, Score, ScoreStatus

_SELF_DESTRUCT_S = 30.0
"""Seconds beyond the time-out after which a worker ends itself: only when nobody is left to kill it."""

_CLOSED = "the reward pool was closed"

_ATTEMPTS = 3
"""Times a rollout is handed to workers, when the pool broke through no fault of that rollout."""


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    """One rollout on its way."""

    task: bytes
    future: Future[Score] = field(default_factory=Future)
    attempt: int = 1


class RewardPool:
    """Scores rollouts in worker processes, each with a hard time-out (implements `ports.RewardModel`).

    The clock of a response starts when a worker takes it; time in the queue doesn't count. Then the worker is
    killed and replaced. A response always gets a Score: of status TIMEOUT after the time-out, of status ERROR
    where the function raised, returned something else, or ended its process.

    Workers start with the first `submit`. They import no torch unless the reward function does, ignore Ctrl-C,
    print nowhere, and don't outlive the process that started them.

    Args:
        function: `math`, `boxed`, `exact`, or `module:function`, plain or async.
        workers: processes. One works on one response at a time, async functions included.
        timeout_s: seconds for one response.
        only_if_stopped: give reward 0 to a response that was cut at the token limit, without calling the function.
    """

    def __init__(
        self, function: str = "math", *, workers: int = 2, timeout_s: float = 10.0, only_if_stopped: bool = True
    ) -> None:
        self._function = function
        self._num_workers = workers
        self._timeout_s = timeout_s
        self._deadline_s = min(timeout_s + _SELF_DESTRUCT_S, threading.TIMEOUT_MAX)
        self._only_if_stopped = only_if_stopped
        self._lock = threading.RLock()
        self._open: set[_Job] = set()
        self._pool: ProcessPool | None = None
        self._ending: list[threading.Thread] = []
        self._closed = False

    @classmethod
    def from_config(cls, reward: Reward) -> RewardPool:
        """Make the pool that a run's `reward` section asks for."""
        return cls(
            reward.function,
            workers=reward.workers,
            timeout_s=reward.timeout_s,
            only_if_stopped=reward.only_if_stopped,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def submit(self, prompt: Prompt, rollout: Rollout) -> Future[Score]:
        """Score one rollout; from any thread. The future always ends with a Score and can't be cancelled."""
        if self._only_if_stopped and rollout.finish is FinishReason.LENGTH:
            return _done(Score(reward=0.0, facts={"truncated": f"cut after {rollout.response_len} tokens"}))
        try:
            task = pickle.dumps((prompt, rollout), protocol=pickle.HIGHEST_PROTOCOL)
        except Exception as error:  # noqa: BLE001  # Prompt.meta holds what the user put there
            return _done(error_score(f"the prompt can't be sent to a worker: {type(error).__name__}: {error}"))
        job = _Job(task)
        job.future.set_running_or_notify_cancel()
        with self._lock:
            self._open.add(job)
        self._send(job)
        return job.future

    def close(self) -> None:
        """End the workers; what has no score yet gets status ERROR. Closing twice does nothing."""
        with self._lock:
            self._closed = True
            self._retire()
            ending, self._ending = self._ending, []
        for thread in ending:
            thread.join()
        for job in list(self._open):
            self._finish(job, error_score(_CLOSED))

    def _send(self, job: _Job) -> None:
        try:
            with self._lock:
                task = None if self._closed else self._schedule(job)
        except (RuntimeError, OSError) as error:  # no process can be started
            self._finish(job, error_score(f"no reward worker: {error}"))
            return
        if task is None:
            self._finish(job, error_score(_CLOSED))
        else:
            task.add_done_callback(lambda done: self._receive(job, done))

    def _schedule(self, job: _Job) -> Future[Score]:
        """Hand a job to the pool; start one, or another where the present one broke. Called under the lock."""
        with _interrupts_blocked():
            if self._pool is not None and not self._pool.active:
                self._retire()
            if self._pool is None:
                self._pool = ProcessPool(
                    max_workers=self._num_workers,
                    initializer=worker.start,
                    initargs=(self._function, str(Path.cwd()), self._deadline_s),
                    context=multiprocessing.get_context("spawn"),
                )
            task: Future[Score] = self._pool.schedule(worker.score, args=(job.task,), timeout=self._timeout_s)
        return task

    def _retire(self) -> None:
        """End the present pool in a thread of its own: who calls may be one of the pool's threads."""
        pool, self._pool = self._pool, None
        if pool is not None:
            thread = threading.Thread(target=_end, args=(pool,), name="orz-reward-pool-end")
            thread.start()
            self._ending.append(thread)

    def _receive(self, job: _Job, done: Future[Score]) -> None:
        """Turn what came of a job into its score; runs in a thread of the pool."""
        error = done.exception()
        match error:
            case None:
                self._finish(job, done.result())
            case TimeoutError():
                reason = f"no score after {self._timeout_s:g} s"
                self._finish(job, error_score(reason, status=ScoreStatus.TIMEOUT))
            case ProcessExpired():
                self._finish(job, error_score(_death(error.exitcode)))
            case BrokenProcessPool() if job.attempt < _ATTEMPTS:  # an idle worker died; not this job's doing
                again = _Job(job.task, job.future, job.attempt + 1)
                with self._lock:
                    self._open.discard(job)
                    self._open.add(again)
                self._send(again)
            case _:  # stopping, the pool may fail a task in ways of its own
                reason = _CLOSED if self._closed else f"{type(error).__name__}: {error}"
                self._finish(job, error_score(reason))

    def _finish(self, job: _Job, score: Score) -> None:
        with self._lock:
            if job not in self._open:
                return
            self._open.discard(job)
        job.future.set_result(score)


def _end(pool: ProcessPool) -> None:
    pool.stop()  # type: ignore[no-untyped-call]  # Pebble leaves its result unannotated
    pool.join()


def _done(score: Score) -> Future[Score]:
    future: Future[Score] = Future()
    future.set_result(score)
    return future


def _death(exit_code: int) -> str:
    """Say how a worker ended."""
    if exit_code < 0:
        meaning = signal.strsignal(-exit_code) or "of this system's own"
        return f"the worker was killed by signal {-exit_code} ({meaning}) while it scored this response"
    return f"the reward function ended its process with exit code {exit_code}"


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Block Ctrl-C in this thread, and so in the threads and processes that it starts.

    A worker ignores Ctrl-C from its first moment, before any Python of its own runs; the main thread handles it.
    """
    resource_tracker.ensure_running()  # it unblocks the signal when it starts, so it comes first
    before: set[Any] = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
