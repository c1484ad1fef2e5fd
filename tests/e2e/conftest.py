"""Runs `orz` as a user does: the installed command, in a process and a folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # the kernel's
LISTEN = "0A"
"""The state of a socket in /proc/net/tcp."""
ORZ = Path(sysconfig.get_path("scripts")) / ("orz.exe" if sys.platform == "win32" else "orz")


@dataclass(frozen=True)
class Result:
    """What a command answered."""

    code: int
    stdout: str
    stderr: str


def _shared_memory() -> set[Path]:
    """List this user's files in shared memory."""
    found = set()
    for path in SHARED_MEMORY.iterdir():
        with suppress(FileNotFoundError):  # it went while we looked
            if path.stat().st_uid == os.getuid():
                found.add(path)
    return found


@dataclass
class Footprint:
    """What a run has on the machine: processes, files in shared memory, sockets; as far as it was seen.

    Made before the run starts. A process is the run's if it inherited the mark, or descends from one that is: some
    overwrite their environment. A file in shared memory tells nobody who made it, and other tests run beside this one:
    it is the run's if it is new, unless somebody else was seen to hold it, and the run was not.
    """

    mark: str
    processes: set[psutil.Process] = field(default_factory=set)
    memory: set[Path] = field(default_factory=set)
    sockets: set[int] = field(default_factory=set)
    foreign: set[Path] = field(default_factory=set)
    """New files in shared memory that others hold."""
    before: set[Path] = field(default_factory=_shared_memory)

    def look(self) -> None:
        """Take in what is there now."""
        unknown = _shared_memory() - self.before - self.memory - self.foreign
        holders = _holders(unknown)  # before the processes, so that a new one of the run is among these
        alive = {process.pid for process in self.alive()}
        for process in psutil.process_iter(["ppid"]):  # by pid: parents mostly before their children
            if process.info["ppid"] in alive:
                self.processes.add(process)
                alive.add(process.pid)
        pids = {process.pid for process in self.processes}
        self.memory |= {path for path in holders if holders[path] & pids}
        self.foreign |= holders.keys() - self.memory
        self.sockets |= _listening().keys() & {inode for pid in alive for inode in _sockets(pid)}

    def left(self) -> list[str]:
        """Say what of it is there still."""
        self.look()
        listening = _listening()
        return [
            *(" ".join(self.command(process)) for process in self.alive()),
            *(str(path) for path in _shared_memory() - self.before - self.foreign),
            *(f"port {listening[inode]}" for inode in self.sockets & listening.keys()),
        ]

    def alive(self) -> list[psutil.Process]:
        """List its processes that live."""
        self.processes |= {one for one in psutil.process_iter() if self._has_mark(one)}
        return [process for process in list(self.processes) if _lives(process)]

    def command(self, process: psutil.Process) -> list[str]:
        """Return what a process runs; its name, where that can't be read."""
        try:
            return process.cmdline()
        except psutil.Error:
            return [f"process {process.pid}, which has ended"]

    def _has_mark(self, process: psutil.Process) -> bool:
        try:
            return f"ORZ_TEST_MARK={self.mark}".encode() in Path(f"/proc/{process.pid}/environ").read_bytes()
        except OSError:
            return False


def _lives(process: psutil.Process) -> bool:
    """Tell whether a process is there, and no zombie that waits for its parent."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _holders(paths: set[Path]) -> dict[Path, set[int]]:
    """Find the processes that have mapped files; a file that nobody has mapped is left out."""
    holders: dict[Path, set[int]] = {}
    for pid in psutil.pids() if paths else ():
        for path in paths & _mapped(pid):
            holders.setdefault(path, set()).add(pid)
    return holders


def _mapped(pid: int) -> set[Path]:
    """List the files that a process has mapped."""
    try:
        lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    except OSError:  # it ended while we looked, or is another user's
        return set()
    return {Path(f"/{path}") for line in lines if (path := line.partition("/")[2])}


def _listening() -> dict[int, int]:
    """Return the port of each socket that somebody listens on, by inode: a port may be another socket's later."""
    tables = [path for name in ("tcp", "tcp6") if (path := Path("/proc/net", name)).exists()]
    rows = [line.split() for path in tables for line in path.read_text().splitlines()[1:]]
    return {int(row[9]): int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == LISTEN}


def _sockets(pid: int) -> set[int]:
    """List the inodes of the sockets that a process has open."""
    found = set()
    with suppress(OSError):  # it ended while we looked
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):  # it closed one
                kind, _, inode = str(entry.readlink()).partition(":")
                if kind == "socket":
                    found.add(int(inode.strip("[]")))
    return found


@pytest.fixture(scope="session")
def footprint() -> type[Footprint]:
    """Return the class: it is made for each run."""
    return Footprint


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """Return an environment without colours and without the network."""
    return {**os.environ, "NO_COLOR": "1", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


@pytest.fixture
def orz(tmp_path: Path, environment: dict[str, str]) -> Callable[..., Result]:
    """Run an `orz` command in the test's folder to its end."""

    def run(*arguments: str, cwd: Path = tmp_path) -> Result:
        done = subprocess.run(
            [str(ORZ), *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=600, check=False
        )
        return Result(done.returncode, done.stdout, done.stderr)

    return run
