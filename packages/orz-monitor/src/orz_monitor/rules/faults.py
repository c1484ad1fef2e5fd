"""Faults that a log states in words: how rules find them among a run's events.

A dialect records each as an event `fault` or `notice`, whose `data` has a `kind` of `dialects.fault_shapes.KINDS` (or
`disk_nearly_full`, `memory_pressure`, `one_symbol`), the words of the log as `message`, the place as `file` and `line`,
and the `rank` where one is known. The one that ended the run comes once more at the end, as `error` or `interrupted`.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Final

import numpy as np

from orz_monitor.addresses import located
from orz_monitor.records import EventRecord
from orz_monitor.run import Run, State

CUDA_OOM: Final = "cuda_oom"
HOST_OOM: Final = "host_oom"
RAY_OOM: Final = "ray_oom"
KV_OOM: Final = "kv_oom"
COLLECTIVE_TIMEOUT: Final = "nccl_timeout"
DISK_FULL: Final = "disk_full"
MEMORY_PRESSURE: Final = "memory_pressure"
DISK_NEARLY_FULL: Final = "disk_nearly_full"
ONE_SYMBOL: Final = "one_symbol"
SIGNAL: Final = "signal"
TIME_LIMIT: Final = "slurm_limit"
NO_RESOURCES: Final = "no_resources"
SURVIVED_AFTER: Final = 2
"""A fault that more steps than these followed is past; up to then it may still be what the run dies of."""
_OF_TEARDOWN: Final = frozenset({"traceback", "cuda_error", "segfault", CUDA_OOM, HOST_OOM, DISK_FULL})
"""Kinds worth a word after a finish; that actors and engines die then is how they are taken down."""
_EVENTS: Final = frozenset({"fault", "notice"})
_SAID: Final = {
    "CUDA out of memory": CUDA_OOM,
    "torch.OutOfMemoryError": CUDA_OOM,
    "torch.cuda.OutOfMemoryError": CUDA_OOM,
    "No available memory for the cache blocks": KV_OOM,
    "larger than the maximum number of tokens that can be stored in KV cache": KV_OOM,
    "ray.exceptions.OutOfMemoryError": RAY_OOM,
    "node running low on memory": RAY_OOM,
    "killed due to memory pressure": RAY_OOM,
    "OutOfMemoryError": CUDA_OOM,  # torch's, where nothing more is said
    "MemoryError": HOST_OOM,
    "Cannot allocate memory": HOST_OOM,
    "Watchdog caught collective operation timeout": COLLECTIVE_TIMEOUT,
    "No space left on device": DISK_FULL,
    "Disk quota exceeded": DISK_FULL,
    "DUE TO TIME LIMIT": TIME_LIMIT,
}
"""Words of an error message to the kind of fault; the first that fits counts."""


def faults(run: Run, kinds: Collection[str]) -> list[EventRecord]:
    """Return the events of a run that are faults of some kinds, in their order."""
    return [event for event in run.events if event.event in _EVENTS and event.data.get("kind") in kinds]


def of_teardown(run: Run) -> list[EventRecord]:
    """Return the errors that came after the trainer had said that it finished, in their order."""
    if run.state is not State.FINISHED:
        return []
    finish = max(index for index, event in enumerate(run.events) if event.event == "finish")
    return [e for e in run.events[finish + 1 :] if e.event in _EVENTS and e.data.get("kind") in _OF_TEARDOWN]


def num_steps_after(run: Run, fault: EventRecord) -> int:
    """Return how many steps a run has that are later than the one before a fault."""
    if fault.step is None:
        return len(run.steps)
    return len(run.steps) - int(np.searchsorted(run.steps, fault.step, side="right"))


def kind_of_words(text: str) -> str:
    """Recognise the kind of fault by the words of an error; empty if it is none of these.

    Example:
        >>> kind_of_words("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB")
        'cuda_oom'
    """
    return next((kind for words, kind in _SAID.items() if words in text), "")


def said(event: EventRecord) -> str:
    """Return what the log says of a fault, in one short line without the stop at its end."""
    return in_short(" ".join(str(event.data.get("message", "")).split()))


def in_short(words: str) -> str:
    """Return the first 300 characters of a message, without one stop at its end: a sentence goes on behind it."""
    short = words[:300]
    return short if short.endswith("..") else short.removesuffix(".")


def place_of(event: EventRecord) -> tuple[Path | None, int | None]:
    """Return the file and line that an event was read from, where a dialect has noted them."""
    file, line = event.data.get("file"), event.data.get("line")
    return located(file) if isinstance(file, str) else None, line if isinstance(line, int) else None


def last_error(run: Run) -> EventRecord | None:
    """Return the error that ended a run, as far as its records tell, or None."""
    return next((event for event in reversed(run.events) if event.event == "error"), None)


def last_words(run: Run) -> str:
    """Return the message of the error that ended a run; empty where there is none."""
    error = last_error(run)
    if error is not None:
        return str(error.data.get("message", ""))
    return run.traceback.exception if run.traceback is not None else ""


def last_step(run: Run) -> int | None:
    """Return the last step that has a record, or None."""
    return int(run.steps[-1]) if len(run.steps) else None
