"""Memory ran out: of a device, of the host, of Ray's share, or of the key-value cache."""

from __future__ import annotations

from typing import Final

from orz_cli.findings import Severity
from orz_monitor.findings import Cause, Finding
from orz_monitor.rules.base import NoLimits, Rule
from orz_monitor.rules.faults import (
    CUDA_OOM,
    HOST_OOM,
    KV_OOM,
    RAY_OOM,
    faults,
    kind_of_words,
    last_error,
    last_step,
    last_words,
    of_teardown,
    place_of,
    said,
)
from orz_monitor.run import Run, State

_WHERE: Final = {
    CUDA_OOM: "A device ran out of memory",
    HOST_OOM: "The host ran out of memory",
    RAY_OOM: "Ray killed a worker for want of memory",
    KV_OOM: "The key-value cache does not fit",
}
_CAUSES: Final = {
    CUDA_OOM: (
        Cause(
            what="rows or responses are longer than the device can train",
            confirm="the traceback is in the training phase; `rollout/response_tokens_mean` grew",
            try_="lower `packing.max_tokens_per_row`, or set `policy.gradient_checkpointing=true`",
        ),
        Cause(
            what="sampler and trainer share the device, and neither gives enough back",
            confirm="the traceback is where weights move or the sampler wakes",
            try_="give the sampler less of the device's memory",
        ),
        Cause(
            what="memory is fragmented",
            confirm="the message says that much is reserved but unallocated",
            try_="set `PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True`",
        ),
    ),
    HOST_OOM: (
        Cause(
            what="offloaded weights, optimizer states or dumped rollouts fill the host",
            confirm="the kernel's log names the process; memory grows from step to step, or at saves",
            try_="offload less, or save from one rank after the other",
        ),
    ),
    RAY_OOM: (
        Cause(
            what="the node's memory reached Ray's threshold: object store, replay buffer, reward workers",
            confirm="Ray's message lists the processes by memory",
            try_="lower `reward.workers`, or the object store; `RAY_memory_usage_threshold` moves the limit",
        ),
    ),
    KV_OOM: (
        Cause(
            what="the longest allowed response does not fit the cache that is left beside the weights",
            confirm="the engine's message gives both numbers",
            try_="give the engine more of the device, lower `generation.max_response_tokens`, or use more engines",
        ),
    ),
}


def check(run: Run, _: NoLimits) -> list[Finding]:
    """Report the first fault of each kind; without one, look at the words of the error that ended the run."""
    found = []
    late = {id(event) for event in of_teardown(run)}
    for kind, title in _WHERE.items():
        events = faults(run, {kind})
        words = last_words(run) if run.state is State.FAILED else ""
        if not events and kind_of_words(words) != kind:
            continue
        told = events[0] if events else last_error(run)
        file, line = place_of(told) if told is not None else (None, None)
        step = events[0].step if events and events[0].step is not None else last_step(run)
        times = f" It happened {len(events)} times." if len(events) > 1 else ""
        message = said(events[0]) if events else words.splitlines()[0][:300]
        found.append(
            Finding(
                code="out_of_memory",
                severity=Severity.WARN if events and id(events[0]) in late else Severity.ERROR,
                title=title,
                message=f"{message.rstrip('.') or title}.{times}",
                causes=_CAUSES[kind],
                first_step=step,
                last_step=step,
                file=file or (run.traceback.path if run.traceback is not None else None),
                line=line or (run.traceback.line if run.traceback is not None else None),
            )
        )
    return found


RULE = Rule(
    code="out_of_memory",
    title="memory suffices",
    check=check,
    absorbs=frozenset({"crash", "stall"}),
    source="four kinds of memory run out, and what helps differs; after the trainer said that it finished, a warning",
)
