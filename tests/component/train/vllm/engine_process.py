"""Hosts a vLLM engine in a process of its own: `python engine_process.py SOCKET`, called over that socket.

vLLM patches torch when it is imported, so no test process imports it. As in a worker of a cluster, the engine runs
outside the main thread.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Client
from queue import SimpleQueue
from threading import Thread
from typing import Any

from orz_train.backends.vllm.engine import VLLMEngine, load_engine
from orz_train.backends.vllm.processes import EndedProcess


def _first_batch(engine: VLLMEngine, *args: Any, **kwargs: Any) -> list[Any]:
    """Take one batch of rollouts and stop, as a caller that fails does."""
    batches = engine.generate(*args, **kwargs)
    taken = list(itertools.islice(batches, 1))
    batches.close()  # type: ignore[attr-defined]  # a generator
    return taken


def _cached_tokens(engine: VLLMEngine, *args: Any, **kwargs: Any) -> list[int]:
    """Generate; return for each response how many of its prompt's tokens vLLM had computed before."""
    core = engine.llm.llm_engine
    step, counts = core.step, []

    def counting() -> list[Any]:
        outputs: list[Any] = step()
        counts.extend(output.num_cached_tokens for output in outputs if output.finished)
        return outputs

    core.step = counting  # type: ignore[method-assign,assignment]
    try:
        list(engine.generate(*args, **kwargs))
    finally:
        core.step = step  # type: ignore[method-assign]
    return counts


def _lose_worker(engine: VLLMEngine, rank: int) -> tuple[int, EndedProcess]:
    """Kill a worker process; return its id and what is reported."""
    reports: SimpleQueue[EndedProcess] = SimpleQueue()
    engine.watch_processes(reports.put)
    process = engine.llm.llm_engine.model_executor.workers[rank].proc
    os.kill(process.pid, signal.SIGKILL)
    return process.pid, reports.get(timeout=60)


HELPERS: dict[str, Callable[..., Any]] = {
    "first_batch": _first_batch,
    "cached_tokens": _cached_tokens,
    "lose_worker": _lose_worker,
}


def _serve(address: str) -> None:
    engine: VLLMEngine | None = None
    with Client(address) as connection:
        while True:
            try:
                name, args, kwargs = connection.recv()
            except EOFError:
                return
            try:
                result: object = None
                if name == "load_engine":
                    engine = load_engine(*args, **kwargs)
                elif name == "generate":
                    result = list(engine.generate(*args, **kwargs))
                elif name in HELPERS:
                    result = HELPERS[name](engine, *args, **kwargs)
                elif name == "policy_version":
                    result = engine.policy_version
                else:
                    getattr(engine, name)(*args, **kwargs)
            except Exception as error:  # noqa: BLE001  # the caller raises it
                connection.send((False, error))
            else:
                connection.send((True, result))


if __name__ == "__main__":  # the workers of tensor parallelism import this file again
    thread = Thread(target=_serve, args=(sys.argv[1],))
    thread.start()
    thread.join()
