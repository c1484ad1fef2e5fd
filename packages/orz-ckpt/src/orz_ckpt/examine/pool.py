"""Read many files at once, and stop at once when asked to."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from orz_ckpt.checks.content import Job, Read, read_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orz_ckpt.watch import Progress

_MAX_THREADS: Final = 8
"""More do not help: hashing has threads of its own, and disks prefer few long reads."""


class _StoppedError(Exception):
    """Another thread failed or the user interrupted; nobody waits for this file."""


class _Stoppable:
    """Progress at which a reader stops once nobody waits for it."""

    def __init__(self, progress: Progress, stop: threading.Event) -> None:
        self._stop = stop
        self._progress = progress

    def add_total(self, nbytes: int) -> None:
        self._progress.add_total(nbytes)

    def advance(self, nbytes: int) -> None:
        if self._stop.is_set():
            raise _StoppedError
        self._progress.advance(nbytes)


def read_all(jobs: Sequence[Job], progress: Progress) -> list[Read]:
    """Read all files, the largest first, and return what was found in the order of `jobs`.

    Args:
        jobs: the files.
        progress: told of the bytes that were read, and of those that a file needs beyond its size.
    """
    stop = threading.Event()
    count = _Stoppable(progress, stop)
    order = sorted(range(len(jobs)), key=lambda index: -jobs[index].size)
    with ThreadPoolExecutor(max_workers=min(_MAX_THREADS, os.cpu_count() or 1)) as pool:
        try:
            futures = {index: pool.submit(read_file, jobs[index], count) for index in order}
            return [futures[index].result() for index in range(len(jobs))]
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
