"""`ray.init` without what it does to the process that calls it: its environment, its loggers, its signals."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray._private import worker as ray_worker

from orz_train.cluster.errors import ClusterError
from orz_train.signals import ENDING

PREFIX = "orz-ray-"
"""How the folder of a Ray begins that belongs to one run."""
_LOGGERS = ("ray", "ray._private", "ray.actor", "ray.util")
"""`ray.init` takes the handlers of the first one away."""


def init(**options: Any) -> None:
    """Call `ray.init`; the driver's own reaction to signals stays, which that would replace."""
    if ray.is_initialized():
        raise ClusterError("this process is connected to Ray already", remedy="call ray.shutdown() first")
    with _interrupts_later():
        ray.init(configure_logging=False, log_to_driver=False, **options)


@contextmanager
def _interrupts_later() -> Iterator[None]:
    """Keep what ends a run for after the context: half a Ray has nobody who would stop it.

    What is ignored, as SIGHUP is under `nohup`, stays so: Ray's processes are to inherit that.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [one for one in ENDING if signal.getsignal(one) is not signal.SIG_IGN]
    arrived: list[int] = []
    before = {one: signal.signal(one, lambda number, _frame: arrived.append(number)) for one in numbers}
    try:
        yield
    finally:
        for one in numbers:
            signal.signal(one, before[one])
        for number in arrived:
            signal.raise_signal(number)


@contextmanager
def quiet(log: Path) -> Iterator[None]:
    """Send what Ray would print on the driver's terminal to a file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(log, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [(logger.handlers, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.handlers, logger.propagate = [handler], False
    ray_worker._worker_logs_enabled = False  # noqa: SLF001  # else "(raylet) A worker died" tears the live view
    try:
        yield
    finally:
        ray_worker._worker_logs_enabled = True  # noqa: SLF001
        for logger, (handlers, propagates) in zip(loggers, before, strict=True):
            logger.handlers, logger.propagate = handlers, propagates
        handler.close()


@contextmanager
def environment(variables: dict[str, str]) -> Iterator[None]:
    """Set environment variables, for Ray's processes to inherit; put the old ones back."""
    with unchanged(*variables):
        os.environ.update(variables)
        yield


@contextmanager
def unchanged(*names: str) -> Iterator[None]:
    """Put environment variables back as they were."""
    before = {name: os.environ.get(name) for name in names}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def explained(failed: str, *, remedy: str) -> Iterator[None]:
    """Turn whatever Ray raises into a ClusterError that says what `failed`; one of ours passes."""
    try:
        yield
    except ClusterError:
        raise
    except Exception as error:  # a node that is late is a bare one
        raise ClusterError(f"{failed}: {first_line(error)}", remedy=remedy) from error


def first_line(error: Exception) -> str:
    """Return the first line of what an error says, or its type where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
