"""The worker processes of an engine with tensor parallelism: which of them ended, and how.

vLLM notices it, too, but then only shuts its queues: whoever waits there is cancelled, without a word of the process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from threading import Event, Thread

EXIT_CODE_S = 2.0
"""Seconds to wait for an exit code: another thread may have fetched it just now."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EndedProcess:
    """A process that ended though nobody ended it."""

    name: str
    pid: int | None
    exit_code: int | None
    """Negative: minus the signal. None if it isn't known."""


def watch_processes(
    processes: Sequence[BaseProcess], closing: Event, report: Callable[[EndedProcess], None]
) -> Thread | None:
    """Report, from a thread of its own, the first of the processes that ends; nothing once `closing` is set.

    Args:
        processes: children of this one.
        closing: is set before they are ended on purpose.
        report: takes the one that ended.

    Returns:
        The thread; None where there are no processes.
    """
    if not processes:
        return None

    def wait() -> None:
        ready = connection.wait([process.sentinel for process in processes])
        if closing.is_set():
            return
        ended = next(process for process in processes if process.sentinel in ready)
        end = time.monotonic() + EXIT_CODE_S
        while ended.exitcode is None and time.monotonic() < end:
            time.sleep(0.01)
        report(EndedProcess(name=ended.name, pid=ended.pid, exit_code=ended.exitcode))

    thread = Thread(target=wait, name="engine-processes", daemon=True)
    thread.start()
    return thread
