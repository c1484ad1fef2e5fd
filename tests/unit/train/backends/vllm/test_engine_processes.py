"""Which worker process of an engine ended, and how."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from queue import SimpleQueue
from threading import Event

import pytest

from orz_train.backends.vllm.processes import EndedProcess, watch_processes

pytestmark = pytest.mark.unit

PATIENCE_S = 60


@pytest.fixture
def two() -> Iterator[list[BaseProcess]]:
    """Two processes that sleep."""
    context = multiprocessing.get_context("fork")
    started: list[BaseProcess] = [
        context.Process(target=time.sleep, args=(600,), name=f"VllmWorker-{rank}") for rank in range(2)
    ]
    for process in started:
        process.start()
    yield started
    for process in started:
        process.kill()
        process.join()


def test_the_one_that_was_killed_is_named(two: list[BaseProcess]) -> None:
    """With its signal, though another thread waits for it, too."""
    reports: SimpleQueue[EndedProcess] = SimpleQueue()
    other = watch_processes(two, Event(), lambda _: None)
    watch_processes(two, Event(), reports.put)
    pid = two[1].pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert EndedProcess(name="VllmWorker-1", pid=pid, exit_code=-9) == reports.get(timeout=PATIENCE_S)
    assert other is not None
    other.join(PATIENCE_S)


def test_an_end_on_purpose_is_none(two: list[BaseProcess]) -> None:
    """Who closes the engine says so first."""
    closing, reports = Event(), list[EndedProcess]()
    thread = watch_processes(two, closing, reports.append)
    assert thread is not None
    closing.set()
    two[0].terminate()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert [] == reports


def test_without_processes_nothing_is_watched() -> None:
    """An engine without tensor parallelism is its own only process."""
    assert watch_processes([], Event(), lambda _: None) is None
