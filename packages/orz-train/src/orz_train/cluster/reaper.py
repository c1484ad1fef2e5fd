"""The parent of one worker process: it says how the worker ended, and lets nothing outlive it.

Ray tells the driver that an actor died, not of what. So each worker runs under this parent, which waits for it and
writes the exit status as the last line of the worker's log. The parent also adopts what the worker has started
(engine cores, compilers, resource trackers) and ends it; and the worker ends with the parent.

    python -I -S reaper.py NAME LOG COMMAND...

It runs as a file, with nothing but the standard library, because a worker starts the faster for it.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
GRACE_S = 2.0
"""Seconds in which a dead worker's own children may clean up, as multiprocessing's resource tracker does."""
OOM_COUNTERS = ("/proc/vmstat", "/sys/fs/cgroup/memory.events")
"""Where Linux counts processes that it killed for lack of memory: of the machine, of the container."""
_NAMES = {one.value: one.name for one in signal.Signals}
_ENDED = re.compile(
    r"^orz-train: (?P<name>.+), process (?P<pid>\d+), ended at (?P<at>[\d.]+) (?P<how>.+)$", re.MULTILINE
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Ending:
    """How a worker process ended."""

    pid: int
    at: float
    """Seconds since the Unix epoch, by its node's clock."""
    how: str
    """For people: `by signal 9 (SIGKILL)`."""


def leave_group() -> None:
    """Take a worker, and what it starts from now on, out of the group that Ray kills: those may clean up."""
    with suppress(PermissionError, ProcessLookupError):  # its parent is no reaper
        os.setpgid(0, os.getppid())


def find_ending(log: str) -> Ending | None:
    """Find how a worker's process ended in the text of its log; None if its parent hasn't said."""
    found = None
    for found in _ENDED.finditer(log):  # noqa: B007  # the last one counts
        pass
    return Ending(pid=int(found["pid"]), at=float(found["at"]), how=found["how"]) if found else None


def describe(status: int, *, out_of_memory: bool) -> str:
    """Say what a wait status means."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        text = f"by signal {number} ({_NAMES.get(number, 'a real-time signal')})"
        if out_of_memory and number == signal.SIGKILL:
            text += "; its node ran out of memory at that time"
        return text
    return f"with exit status {os.WEXITSTATUS(status)}"


def count_oom_kills() -> int:
    """Count the processes that the kernel has killed for lack of memory."""
    count = 0
    for path in OOM_COUNTERS:
        with suppress(OSError):  # no such counter here
            lines = Path(path).read_text(encoding="ascii").splitlines()
            count += sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
    return count


def main(name: str, log: str, command: list[str]) -> int:
    """Run a command to its end, say how it ended, end what it left; return its exit status.

    As soon as the worker is gone, Ray kills the process that it started, and the group that the worker began in. So
    the process that it started only waits; its child, in another group, is the parent of the worker.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    waiting = os.getpid()
    reaper = os.fork()
    if reaper == 0:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        os.setsid()
        os._exit(_run(libc, name, log, command) if os.getppid() == waiting else 1)
    return _exit_code(os.waitpid(reaper, 0)[1])


def _run(libc: ctypes.CDLL, name: str, log: str, command: list[str]) -> int:
    """Start the worker, wait for it, and clean up; a SIGTERM kills the worker first."""
    oom_kills = count_oom_kills()
    parent = os.getpid()
    worker = os.fork()
    if worker == 0:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died before it could take the worker with it
            os._exit(1)
        os.setpgid(0, 0)
        os.execvp(command[0], command)  # noqa: S606  # the command is Ray's own
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda _number, _frame: os.kill(worker, signal.SIGKILL))
    os.waitid(os.P_PID, worker, os.WEXITED | os.WNOWAIT)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # from here on the number may be that of another process
    _, status = os.waitpid(worker, 0)
    how = describe(status, out_of_memory=count_oom_kills() > oom_kills)
    with suppress(OSError):  # the folder is gone, or the disk is full: there is nobody left to tell
        _append(log, f"orz-train: {name}, process {worker}, ended at {time.time():.3f} {how}\n")
    _end_orphans()
    return _exit_code(status)


def _exit_code(status: int) -> int:
    """Return the exit code of a wait status, as a shell gives it."""
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def _append(log: str, line: str) -> None:
    """Add a line of its own."""
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    with Path(log).open("a+b") as file:
        if file.seek(0, os.SEEK_END) > 0:
            file.seek(-1, os.SEEK_END)
            line = line if file.read(1) == b"\n" else f"\n{line}"
        file.write(line.encode())


def _end_orphans() -> None:
    """Wait a moment for adopted processes to end, then kill them; each that ends hands its own children on."""
    deadline = time.monotonic() + GRACE_S
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                if time.monotonic() > deadline:
                    for pid in _children():
                        with suppress(ProcessLookupError):
                            os.kill(pid, signal.SIGKILL)
                time.sleep(0.02)
        except ChildProcessError:
            return


def _children() -> list[int]:
    """List this process's children."""
    own = os.getpid()
    return [int(pid) for pid in Path(f"/proc/{own}/task/{own}/children").read_text(encoding="ascii").split()]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
