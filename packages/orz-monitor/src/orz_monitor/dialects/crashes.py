"""How runs die: tracebacks, memory, NCCL's watchdog, signals, Slurm's limits, Ray's actors, full disks.

A fault is an event; whether the run died of it is decided by `verdict`, once it is known what came after.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from orz_monitor.dialects.base import Dialect
from orz_monitor.log import Entry, Event, Log
from orz_monitor.printable import one_line
from orz_monitor.transport.lines import Line, Segment
from orz_monitor.transport.prefixes import Origin

KINDS: Final = {
    "cuda_oom": "a GPU ran out of memory",
    "host_oom": "a process was killed because the machine ran out of memory",
    "ray_oom": "Ray killed a worker because the node ran low on memory",
    "kv_oom": "the engine has no memory for its KV cache",
    "cuda_error": "a CUDA kernel failed",
    "nccl_timeout": "a collective operation timed out",
    "segfault": "a process crashed in native code",
    "disk_full": "the disk is full",
    "slurm_limit": "Slurm ended the job",
    "signal": "the job was ended by a signal",
    "no_resources": "the cluster has not what was asked for",
    "port_taken": "a port was in use",
    "engine_dead": "the inference engine died",
    "traceback": "a Python exception",
    "actor_died": "a Ray actor died",
    "exit_code": "a process left with an exit code",
}
"""Kinds of faults, causes before consequences: of those that ended a run the first in this order is the reason."""

_STOPS: Final = {"signal", "slurm_limit"}
"""Kinds by which somebody stopped the run from outside."""
_WAITS: Final = {"no_resources"}
"""Kinds that a run waits for to pass, which is no end."""
_SHAPES: Final = (
    ("cuda_oom", rb"CUDA out of memory|torch\.(?:cuda\.)?OutOfMemoryError|HIP out of memory|CUDA error: out of memory"),
    (
        "ray_oom",
        rb"killed due to memory pressure|ray\.exceptions\.OutOfMemoryError|due to the node running low on memory",
    ),
    (
        "kv_oom",
        rb"No available memory for the cache blocks|larger than the maximum number of tokens that can be stored in KV",
    ),
    ("host_oom", rb"oom-kill|Out of memory: Killed process|oom_kill event|SIGKILL by OOM killer due to high memory"),
    ("cuda_error", rb"CUDA error: |CUBLAS_STATUS_|cuDNN error|device-side assert triggered|Xid \(PCI"),
    ("nccl_timeout", rb"Watchdog caught collective operation timeout"),
    ("segfault", rb"Fatal Python error: |Segmentation fault"),
    ("disk_full", rb"No space left on device"),
    ("slurm_limit", rb"slurmstepd: error: .{0,200}CANCELLED AT.{0,60}"),
    (
        "signal",
        rb"got signal: \d+|SignalException|Received \d+ death signal|KeyboardInterrupt"  # noqa: ISC004  one expression, too long for a line
        rb"|(?:^|: line \d+: +\d+ |srun: error: [^\s:]{1,80}: tasks? [\d,-]{1,80}: )(?:Killed|Terminated)\b(?:\s*$|  )"
        rb"|Exited with exit code (?:1(?:29|3\d|4\d|5\d))\b",  # 128 and the number of a signal
    ),
    ("no_resources", rb"No available node types can fulfill resource request"),
    ("port_taken", rb"EADDRINUSE|Address already in use"),
    ("engine_dead", rb"EngineDeadError|EngineCore encountered a fatal error|AsyncEngineDeadError"),
    ("traceback", rb"Training failed at step \d{1,12} with "),  # SkyRL's, which has no traceback behind it
    ("actor_died", rb"ActorDiedError|Worker exit type: SYSTEM_ERROR|WorkerCrashedError|ActorUnavailableError"),
    ("exit_code", rb"Exited with exit code [1-9]"),
)
_ANY: Final = re.compile(rb"|".join(rb"(?P<" + kind.encode() + rb">" + shape + rb")" for kind, shape in _SHAPES))
_NEARLY_FULL: Final = re.compile(
    rb"(?P<path>\S{1,200}) is over (?P<share>\d{1,3})% full, available space: (?P<free>\d{1,20})"
)
ONE_SYMBOL: Final = b"!" * 64
"""What a model writes whose weights or logits are NaN: in many vocabularies the first token is an exclamation mark."""
_EXCEPTION: Final = re.compile(
    rb"^(?:\w[\w.]{0,120}(?:Error|Exception|Interrupt|Exit|Warning|Died|Timeout)\b|\w[\w.]{1,120}: )"
)
_INSIDE: Final = (b" ", b"\t", b"|", b"+", "│".encode(), "╭".encode(), "╰".encode())
_FOLLOWED_BY_STEPS: Final = 2
"""A fault after which so many steps were done did not end the run."""
_MOST_OF_A_KIND: Final = 200


class Crashes(Dialect):
    """Faults, whatever the trainer."""

    name = "crashes"
    title = "faults"
    is_trainer = False
    always = True
    gates = (
        b"Traceback (most recent call last)",
        b"Watchdog caught collective",
        b"memory pressure",
        b"ut of memory",  # the kernel begins a sentence with it
        b"oom_kill event",
        b"CUDA error: ",
        b" death signal",
        b"SignalException",
        b"% full, available",
        b"CANCELLED AT ",
        b"node types can fulfill",
        b"Segmentation fault",
        b"No space left on device",
        b"ActorDiedError",
        b"EngineDeadError",
        b"Killed",
        b"Terminated",
        b"Exited with exit code ",
        b"EADDRINUSE",
        b"Training failed at step ",
        ONE_SYMBOL,
    )

    def __init__(self) -> None:
        super().__init__()
        self._origin: Origin | None = None
        self._counts: Counter[str] = Counter()
        self._began_at = 0

    def read(self, line: Line, log: Log) -> bool:
        """Read a line that may tell of a fault."""
        if ONE_SYMBOL in line.raw:
            self._add(log, "notice", Segment(body=ONE_SYMBOL), line.number, "one_symbol")
        if len(line.raw) > (1 << 14):
            return False  # samples of text, not a message
        understood = False
        for segment in line.segments:
            body = segment.body
            if body.startswith(b"Traceback (most recent"):
                self._origin, self._began_at, self.more_open = segment.origin, line.number, True
                understood = True
            elif b"% full" in body and (match := _NEARLY_FULL.search(body)):
                found = {
                    "path": one_line(match["path"].decode("utf-8", "replace"), 500),
                    "share": int(match["share"]) / 100,
                    "free_bytes": int(match["free"]),
                }
                self._add(log, "notice", segment, line.number, "disk_nearly_full", found)
                understood = True
            elif kind := _kind_of(body):
                self._add(log, "fault", segment, line.number, kind)
                understood = True
        return understood

    def more(self, line: Line, log: Log) -> bool:
        """Look for the exception at the end of a traceback."""
        belonged = False
        for segment in line.segments:
            if segment.origin != self._origin:
                continue
            belonged = True
            body = segment.body
            if body.startswith(_INSIDE) or not body.strip():
                continue
            if body.startswith((b"Traceback", b"During handling", b"The above exception")):
                continue
            self.more_open = False
            kind = _kind_of(body) or "traceback"
            self._add(log, "fault", segment, line.number, kind, {"traceback_line": self._began_at})
        return belonged

    def finish(self, log: Log) -> None:
        """Note a traceback in which the log ends."""
        if self.more_open:
            segment = Segment(body=b"the log ends within a traceback")
            self._add(log, "fault", segment, self._began_at, "traceback", {"traceback_line": self._began_at})
            self.more_open = False

    def number(self, log: Log) -> None:
        """Faults carry the last step that was done before them, which stitching knows."""

    def _add(
        self, log: Log, event: str, segment: Segment, number: int, kind: str, data: Mapping[str, object] | None = None
    ) -> None:
        """Add a fault; of one that is repeated without end the first ones are kept, and the last."""
        self._counts[kind] += 1
        if self._counts[kind] > _MOST_OF_A_KIND:
            last = next((entry for entry in reversed(log.entries[-50:]) if _is_of(entry, kind)), None)
            if last is not None:
                log.entries.remove(last)
        log.add_event(
            self.name,
            event,
            line=number,
            time=segment.time,
            origin=segment.origin,
            data={
                "kind": kind,
                "message": one_line(segment.text.strip(), 500),
                "count": self._counts[kind],
                **({"rank": segment.origin.rank} if segment.origin.rank is not None else {}),
                **(data or {}),
            },
        )


def verdict(events: Sequence[Event], num_before: Sequence[int], steps: NDArray[np.int64]) -> Event | None:
    """Return the fault that ended the run: the first cause among those after its last steps, or None.

    What comes after a finish is the noise of taking things down.

    Args:
        events: in order, [M].
        num_before: how many rows stand before each event, [M].
        steps: the step of each row, in order.
    """
    last_finish = max((i for i, event in enumerate(events) if event.event == "finish"), default=-1)
    after = steps[num_before[last_finish] :] if last_finish >= 0 else steps
    if last_finish >= 0 and not len(after):
        return None
    others = np.arange(len(after))
    for _ in range(_FOLLOWED_BY_STEPS):
        others = others[after[others] != after[others[-1]]] if len(others) else others
    most = len(steps) - len(after) + int(others[-1]) if len(others) else -1
    ends = [
        event
        for event, before in zip(events[last_finish + 1 :], num_before[last_finish + 1 :], strict=True)
        if before > most and event.event == "fault" and event.data.get("kind") not in _WAITS
    ]
    order = list(KINDS)
    return min(ends, key=lambda end: order.index(str(end.data["kind"])), default=None)


def ended_by(fault: Event) -> str:
    """Return the event name of a fault that ended a run: `interrupted` from outside, else `error`."""
    return "interrupted" if fault.data["kind"] in _STOPS else "error"


def _kind_of(body: bytes) -> str:
    """Return the kind of fault that a line tells of; empty if of none.

    A line that says in which step training failed says behind it what failed, which may have a kind of its own.
    """
    match = _ANY.search(body)
    kind = match.lastgroup or "" if match is not None else ""
    if match is None or kind != "traceback":
        return kind
    inner = _ANY.search(body, match.end())
    return inner.lastgroup or kind if inner is not None else kind


def _is_of(entry: Entry, kind: str) -> bool:
    """Tell whether an entry is a fault or notice of a kind."""
    return isinstance(entry, Event) and entry.dialect == Crashes.name and entry.data.get("kind") == kind
