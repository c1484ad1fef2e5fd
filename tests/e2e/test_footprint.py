"""What a run leaves on the machine is found, and what others leave beside it is not taken for its own."""

from __future__ import annotations

import mmap
import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(sys.platform != "linux", reason="what a process has is read from /proc"),
]

WAIT = "import sys; print(flush=True); sys.stdin.read()"
HOLD = "import mmap, sys; f = open(sys.argv[1], 'w+b'); f.truncate(4096); held = mmap.mmap(f.fileno(), 0)"


@pytest.fixture
def memory() -> Iterator[Path]:
    """Name a file in shared memory; it is removed afterwards."""
    path = Path("/dev/shm") / f"psm_{uuid.uuid4().hex[:8]}"  # noqa: S108  # the kernel's
    yield path
    path.unlink(missing_ok=True)


@pytest.fixture
def run(footprint: Callable[[str], Any]) -> Callable[..., Any]:
    """Run a program as a run is; look while it waits for its input; return the footprint when it has ended."""

    def go(code: str, *arguments: str, fds: tuple[int, ...] = (), look: bool = True) -> Any:
        mark = uuid.uuid4().hex
        seen = footprint(mark)
        with subprocess.Popen(
            [sys.executable, "-c", f"{code}\n{WAIT}", *arguments],
            env={**os.environ, "ORZ_TEST_MARK": mark},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=fds,
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            if look:
                seen.look()
        return seen

    return go


def held(path: Path) -> mmap.mmap:
    """Make a file in shared memory and map it into this process."""
    path.write_bytes(b"1" * mmap.PAGESIZE)
    with path.open("r+b") as file:
        return mmap.mmap(file.fileno(), 0)


@pytest.mark.parametrize("look", [True, False])
def test_shared_memory_that_was_never_seen_mapped_is_found(run: Any, memory: Path, look: bool) -> None:
    """It was made and let go between two looks, or the run was killed before the first."""
    seen = run("import pathlib, sys; pathlib.Path(sys.argv[1]).touch()", str(memory), look=look)
    assert str(memory) in seen.left()
    memory.unlink()
    assert str(memory) not in seen.left()


def test_shared_memory_that_others_hold_is_theirs(run: Any, memory: Path) -> None:
    """Also after they have let it go without removing it; what the run holds, too, is the run's."""
    seen = run("pass")
    with held(memory):
        seen.look()
    assert str(memory) not in seen.left()
    memory.unlink()
    seen = run(HOLD, str(memory))
    with memory.open("r+b") as file, mmap.mmap(file.fileno(), 0):
        assert str(memory) in seen.left()


def test_a_port_is_the_runs_as_long_as_its_socket_lives(run: Any) -> None:
    """One that the run handed on is left; one that another has taken since is not."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        seen = run("", fds=(server.fileno(),))
        assert f"port {port}" in seen.left()
    with socket.create_server(("127.0.0.1", port)):
        assert f"port {port}" not in seen.left()
