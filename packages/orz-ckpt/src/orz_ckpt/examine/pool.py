"""Read many files at once, and stop at once when asked to."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from orz_ckpt.checks.content import Job, Read, read_file

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_MAX_THREADS: Final = 8
"""More do not help: hashing has threads of its own, and disks prefer few long reads."""


class _StoppedError(Exception):
    """Another thread failed or the user interrupted; nobody waits for this file."""


def read_all(jobs: Sequence[Job], advance: Callable[[int], None]) -> list[Read]:
    """Read all files, the largest first, and return what was found in the order of `jobs`."""
    stop = threading.Event()

    def count(nbytes: int) -> None:
        if stop.is_set():
            raise _StoppedError
        advance(nbytes)

    order = sorted(range(len(jobs)), key=lambda index: -jobs[index].size)
    with ThreadPoolExecutor(max_workers=min(_MAX_THREADS, os.cpu_count() or 1)) as pool:
        try:
            futures = {index: pool.submit(read_file, jobs[index], count) for index in order}
            return [futures[index].result() for index in range(len(jobs))]
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
