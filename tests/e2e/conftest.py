"""Runs `orz` as a user does: the installed command, in a process and a folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # the kernel's
ORZ = Path(sysconfig.get_path("scripts")) / ("orz.exe" if sys.platform == "win32" else "orz")


@dataclass(frozen=True)
class Result:
    """What a command answered."""

    code: int
    stdout: str
    stderr: str


@dataclass
class Footprint:
    """What a run has on the machine: processes, files in shared memory, ports; as far as it was seen.

    A process is the run's if it inherited the mark, or descends from one that is: some overwrite their environment.
    """

    mark: str
    processes: set[psutil.Process] = field(default_factory=set)
    memory: set[Path] = field(default_factory=set)
    ports: set[int] = field(default_factory=set)

    def look(self) -> None:
        """Take in what is there now."""
        alive = {process.pid for process in self.alive()}
        for process in psutil.process_iter(["ppid"]):  # by pid: parents mostly before their children
            if process.info["ppid"] in alive:
                self.processes.add(process)
                alive.add(process.pid)
        self.memory |= {path for pid in alive for path in _mapped(pid)}
        self.ports |= {one.laddr.port for one in _listening() if one.pid in alive}

    def left(self) -> list[str]:
        """Say what of it is there still."""
        listening = {one.laddr.port for one in _listening()}
        return [
            *(" ".join(self.command(process)) for process in self.alive()),
            *(str(path) for path in list(self.memory) if path.exists()),
            *(f"port {port}" for port in self.ports & listening),
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


def _mapped(pid: int) -> set[Path]:
    """List the files in shared memory that a process has mapped."""
    try:
        lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    except OSError:  # it ended while we looked
        return set()
    paths = (line.partition("/")[2] for line in lines)
    return {
        Path(f"/{path}") for path in paths if f"/{path}".startswith(f"{SHARED_MEMORY}/") and "(deleted)" not in path
    }


def _listening() -> list[psutil._common.sconn]:
    """List the ports that somebody listens on."""
    return [one for one in psutil.net_connections("inet") if one.status == psutil.CONN_LISTEN]


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
