r"""What a line that tells of a fault looks like, and which of a run's faults is the cause of the others.

Each shape stands beside the literal that is in every line of it: a line without one is never looked at, so these are
as long and as rare as they can be. What a model or a person may write in passing is looked for only where the program
that says it begins its line with it.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

KINDS: Final = {
    "cuda_oom": "a GPU ran out of memory",
    "host_oom": "a process was killed because the machine ran out of memory",
    "ray_oom": "Ray killed a worker because the node ran low on memory",
    "kv_oom": "the engine has no memory for its KV cache",
    "cuda_error": "a CUDA kernel failed",
    "nccl_timeout": "a collective operation timed out",
    "segfault": "a process crashed in native code",
    "disk_full": "the disk is full",
    "slurm_limit": "the scheduler ended the job",
    "signal": "the job was ended by a signal",
    "no_resources": "the cluster has not what was asked for",
    "port_taken": "a port was in use",
    "engine_dead": "the inference engine died",
    "traceback": "a Python exception",
    "actor_died": "a Ray actor died",
    "exit_code": "a process left with an exit code",
}
"""Kinds of faults, causes before consequences: of those that ended a run the first in this order is the reason."""
STOPS: Final = frozenset({"signal", "slurm_limit"})
"""Kinds by which somebody stopped the run from outside."""
WAITS: Final = frozenset({"no_resources"})
"""Kinds that a run waits for to pass, which is no end."""


class Shape(NamedTuple):
    """One way in which programs tell of a fault.

    Attributes:
        kind: one of `KINDS`.
        gate: what every line of this shape holds.
        pattern: what is looked for in the rest of a line behind its prefixes.
    """

    kind: str
    gate: bytes
    pattern: bytes


_TASK: Final = rb"srun: error: [^\s:]{1,80}: tasks? [\d,-]{1,80}: "
_SHELL: Final = rb"(?:^|: line \d+: +\d+ |" + _TASK + rb")"
"""What a shell, or srun, puts before its word for a signal."""
_ENDS: Final = rb"(?:\s*$|  | \(core dumped\))"
_NATIVE: Final = rb"(?:SIG)?(?:ABRT|BUS|FPE|ILL|SEGV|TRAP)"
_NATIVE_NUMBERS: Final = rb"(?:4|5|6|7|8|11)"
_NATIVE_CODES: Final = rb"13(?:2|3|4|5|6|9)"
"""128 and the number of a signal by which a process ends itself."""
_OUTSIDE_CODES: Final = rb"1(?:29|3\d|4\d|5\d)"
_RAISED: Final = rb"(?:Error|Exception|error): .{0,300}?"

SHAPES: Final = (
    Shape("cuda_oom", b"ut of memory", rb"CUDA out of memory|HIP out of memory|CUDA error: out of memory"),
    Shape("cuda_oom", b"OutOfMemoryError", rb"torch\.(?:cuda\.)?OutOfMemoryError"),
    Shape("ray_oom", b"memory pressure", rb"killed due to memory pressure"),
    Shape("ray_oom", b"OutOfMemoryError", rb"ray\.exceptions\.OutOfMemoryError"),
    Shape("ray_oom", b"running low on memory", rb"due to the node running low on memory"),
    Shape("kv_oom", b"No available memory for the cache blocks", rb"No available memory for the cache blocks"),
    Shape(
        "kv_oom",
        b"larger than the maximum number of tokens that can",
        rb"larger than the maximum number of tokens that can be stored in KV",
    ),
    Shape("kv_oom", b"Not enough memory. Please try to increase", rb"Not enough memory\. Please try to increase"),
    Shape("host_oom", b"oom-kill", rb"oom-kill(?: event|:constraint=)"),
    Shape("host_oom", b"ut of memory", rb"Out of memory: Killed process"),
    Shape("host_oom", b"oom_kill event", rb"oom_kill event"),
    Shape("host_oom", b": Out Of Memory", _TASK + rb"Out Of Memory"),
    Shape("cuda_error", b"CUDA error: ", rb"CUDA error: "),
    Shape("cuda_error", b"HIP error: ", rb"HIP error: "),
    Shape("cuda_error", b"CUBLAS_STATUS_", _RAISED + rb"CUBLAS_STATUS_(?!SUCCESS)"),
    Shape("cuda_error", b"cuDNN error: ", rb"cuDNN error: "),
    Shape("cuda_error", b"device-side assert triggered", rb"device-side assert triggered"),
    Shape("cuda_error", b"an illegal memory access was", rb"an illegal memory access was encountered"),
    Shape("cuda_error", b"NVRM: Xid (PCI", rb"NVRM: Xid \(PCI"),
    Shape("nccl_timeout", b"Watchdog caught collective", rb"Watchdog caught collective operation timeout"),
    Shape("nccl_timeout", b"operations have failed or timed out", rb"operations have failed or timed out"),
    Shape("nccl_timeout", b"due to a collective timeout", rb"dump signal due to a collective timeout"),
    Shape("nccl_timeout", b"Heartbeat monitor timed out", rb"Heartbeat monitor timed out"),
    Shape("segfault", b"Fatal Python error: ", rb"Fatal Python error: "),
    Shape("segfault", b"Segmentation fault", rb"Segmentation fault"),
    Shape("segfault", b"Aborted", _SHELL + rb"Aborted" + _ENDS + rb"|\*\*\* Aborted at \d+"),
    Shape("segfault", b"Bus error", _SHELL + rb"Bus error" + _ENDS),
    Shape(
        "segfault",
        b"(core dumped)",
        _SHELL + rb"(?:Illegal instruction|Floating point exception|Trace/breakpoint trap) *\(core dumped\)",
    ),
    Shape("segfault", b" received at time=", rb"\*\*\* " + _NATIVE + rb" received at time="),
    Shape("segfault", b"Caught signal ", rb"Caught signal " + _NATIVE_NUMBERS + rb"\b"),
    Shape("segfault", b" exited on signal ", rb" exited on signal " + _NATIVE_NUMBERS + rb"\b"),
    Shape("segfault", b"died with <Signals.", rb"died with <Signals\." + _NATIVE),
    Shape("segfault", b"Exited with exit code ", rb"Exited with exit code " + _NATIVE_CODES + rb"\b"),
    Shape("segfault", b"failed (exitcode: ", rb"failed \(exitcode: -" + _NATIVE_NUMBERS + rb"\)"),
    Shape("segfault", b"exits with return code = ", rb"exits with return code = -" + _NATIVE_NUMBERS + rb"\b"),
    Shape("segfault", b"terminate called ", rb"^terminate called (?:after throwing|without an active|recursively)"),
    Shape("segfault", b"double free or corruption", rb"^double free or corruption"),
    Shape("segfault", b"Unexpected bus error encountered", rb"Unexpected bus error encountered in worker"),
    Shape("segfault", b": Assertion `", rb": Assertion `.{1,300}' failed\."),
    Shape("disk_full", b"No space left on device", rb"No space left on device"),
    Shape("disk_full", b"Disk quota exceeded", rb"Disk quota exceeded"),
    Shape("slurm_limit", b"CANCELLED AT ", rb"slurmstepd: error: .{0,200}CANCELLED AT.{0,60}"),
    Shape("slurm_limit", b">> PBS: job killed", rb"^=>> PBS: job killed"),
    Shape("slurm_limit", b"error: Node failure on ", rb"srun: error: Node failure on "),
    Shape("signal", b"got signal: ", rb"got signal: \d+"),
    Shape("signal", b"SignalException", rb"SignalException"),
    Shape("signal", b" death signal", rb"Received \d+ death signal"),
    Shape("signal", b"Received SIGTERM", rb"Received SIGTERM\b"),
    Shape("signal", b"KeyboardInterrupt", rb"^KeyboardInterrupt(?::|\s*$)|RayTaskError\(KeyboardInterrupt\)"),
    Shape("signal", b"Killed", _SHELL + rb"Killed" + _ENDS),
    Shape("signal", b"Terminated", _SHELL + rb"Terminated" + _ENDS),
    Shape("signal", b" received at time=", rb"\*\*\* SIG(?:HUP|INT|TERM) received at time="),
    Shape("signal", b" exited on signal ", rb" exited on signal \d+"),
    Shape("signal", b"died with <Signals.", rb"died with <Signals\."),
    Shape("signal", b"Exited with exit code ", rb"Exited with exit code " + _OUTSIDE_CODES + rb"\b"),
    Shape("signal", b"failed (exitcode: ", rb"failed \(exitcode: -\d+\)"),
    Shape("signal", b"exits with return code = ", rb"exits with return code = -\d+"),
    Shape("signal", b"terminated with exit code ", rb"terminated with exit code " + _OUTSIDE_CODES + rb"\s*$"),
    Shape("signal", b"exit status ", rb"(?:^|non-zero )exit status " + _OUTSIDE_CODES + rb"\b\.?\s*$"),
    Shape("no_resources", b"node types can fulfill", rb"No available node types can fulfill resource request"),
    Shape("port_taken", b"EADDRINUSE", rb"EADDRINUSE"),
    Shape("port_taken", b"ddress already in use", rb"(?:Error\b|\[Errno 98\]).{0,300}?[Aa]ddress already in use"),
    Shape("engine_dead", b"EngineDeadError", rb"EngineDeadError"),
    Shape("engine_dead", b"EngineCore encountered a fatal error", rb"EngineCore encountered a fatal error"),
    Shape("engine_dead", b"EngineCore failed to start", rb"EngineCore failed to start"),
    Shape("engine_dead", b"ngine core initialization failed", rb"[Ee]ngine core initialization failed"),
    Shape("engine_dead", b"Scheduler hit an exception", rb"Scheduler hit an exception"),
    Shape("traceback", b"Training failed at step ", rb"Training failed at step \d{1,12} with "),  # SkyRL's last words
    Shape(
        "traceback",
        b"DataLoader worker (pid",
        rb"DataLoader worker \(pid(?:\(s\))? [\d, ]{1,200}\) (?:is killed by signal|exited unexpectedly)",
    ),
    Shape("traceback", b"DistBackendError: ", rb"DistBackendError: "),
    Shape("traceback", b"watchdog thread terminated", rb"watchdog thread terminated with exception"),
    Shape("traceback", b"NCCL communicator was aborted", rb"NCCL communicator was aborted"),
    Shape("traceback", b"gloo/transport/", _RAISED + rb"gloo/transport/"),
    Shape("traceback", b"Unhandled error (suppress with", rb"^Unhandled error \(suppress with"),  # Ray's
    Shape("actor_died", b"DiedError", rb"(?:Actor|Node|Owner|LocalRaylet)DiedError"),
    Shape("actor_died", b"RayActorError", rb"ray\.exceptions\.RayActorError"),
    Shape("actor_died", b"Worker exit type: SYSTEM_ERROR", rb"Worker exit type: SYSTEM_ERROR"),
    Shape("actor_died", b"WorkerCrashedError", rb"WorkerCrashedError"),
    Shape("actor_died", b"ActorUnavailableError", rb"ActorUnavailableError"),
    Shape("actor_died", b"A worker died or was killed", rb"A worker died or was killed while executing a task"),
    Shape("exit_code", b"Exited with exit code ", rb"Exited with exit code [1-9]"),
    Shape("exit_code", b"failed (exitcode: ", rb"failed \(exitcode: [1-9]\d*\)"),
    Shape("exit_code", b"exits with return code = ", rb"exits with return code = [1-9]"),
    Shape("exit_code", b"terminated with exit code ", rb"terminated with exit code [1-9]\d*\s*$"),
    Shape("exit_code", b"exit status ", rb"(?:^|non-zero )exit status [1-9]\d*\.?\s*$"),
    Shape("exit_code", b"ChildFailedError", rb"ChildFailedError"),
    Shape("exit_code", b"It usually means ", rb"It usually means (?:one|the) child failed"),  # SGLang's launcher
)
"""All that is known; of two that begin at the same place of a line the first counts."""
GATES: Final = tuple(dict.fromkeys(shape.gate for shape in SHAPES))
"""What a line has to hold to be looked at."""
_ANY: Final = re.compile(b"|".join(b"(%b)" % shape.pattern for shape in SHAPES))


def kind_of(body: bytes) -> str:
    """Return the kind of fault that a line tells of; empty if of none.

    A line that says in which step training failed, or that a watchdog ended, says behind it what failed, which may
    have a kind of its own.

    Args:
        body: the line behind its prefixes, without escapes.
    """
    match = _ANY.search(body)
    if match is None:
        return ""
    kind = _kind(match)
    if kind != "traceback":
        return kind
    inner = _ANY.search(body, match.end())
    return _kind(inner) if inner is not None else kind


def _kind(match: re.Match[bytes]) -> str:
    """Return the kind of the shape that was found."""
    return SHAPES[match.lastindex - 1].kind if match.lastindex is not None else ""
