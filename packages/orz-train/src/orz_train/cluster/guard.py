"""The last one out: waits for the driver to end, however it ends, and clears away what is left of its own Ray.

    python -I -S guard.py FOLDER

The driver holds the other end of standard input. When that closes, processes of the Ray session have a moment to end
by themselves; then they are killed, and the session's folder is removed. Runs as a file, with the standard library.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

MARK = "ORZ_RAY_SESSION"
"""Environment variable that all processes of a session inherit; its value is the folder."""
GRACE_S = 4.0
"""Seconds for a session to end by itself: workers' parents clean up, as `reaper.py` says."""
LIMIT_S = 20.0


def of_session(folder: str) -> list[int]:
    """List the processes that carry the session's mark, or write to a file in its folder.

    Ray writes titles over the beginning of its processes' environments, and with it perhaps over the mark. A driver
    that lives on keeps its own logs there open, and isn't meant; nor is who only reads there, such as `tail -f`.
    """
    spared = (os.getpid(), os.getppid())
    mark = f"{MARK}={folder}\0".encode()
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and int(entry.name) not in spared:
            with suppress(OSError):  # it is gone by now, or another user's
                if mark in Path(entry.path, "environ").read_bytes() or _writes_below(entry.path, f"{folder}/"):
                    found.append(int(entry.name))
    return found


def _writes_below(process: str, prefix: str) -> bool:
    """Say whether a process, a folder of /proc, has a file open for writing whose path begins so."""
    with os.scandir(f"{process}/fd") as descriptors:
        return any(_is_written_below(process, descriptor, prefix) for descriptor in descriptors)


def _is_written_below(process: str, descriptor: os.DirEntry[str], prefix: str) -> bool:
    with suppress(OSError):  # closed by now
        if str(Path(descriptor.path).readlink()).startswith(prefix):
            info = Path(process, "fdinfo", descriptor.name).read_text()
            flags = next(line.split()[1] for line in info.splitlines() if line.startswith("flags:"))
            return int(flags, 8) & os.O_ACCMODE != os.O_RDONLY
    return False


def main(folder: str) -> None:
    """Wait for the driver's end, then clear away."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.buffer.read()
    began = time.monotonic()
    while (left := of_session(folder)) and time.monotonic() - began < LIMIT_S:
        if time.monotonic() - began > GRACE_S:
            for pid in left:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1])
