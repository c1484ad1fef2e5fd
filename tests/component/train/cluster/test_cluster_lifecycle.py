"""Whatever ends a run, nothing of it is left: no process, no shared memory, no folder of Ray's."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orz_train.cluster.addresses import shared_clusters

pytestmark = pytest.mark.component

FAKES = Path(__file__).parent / "fakes"
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # where Python makes it
TMP = Path("/tmp")  # noqa: S108  # Ray's socket paths leave no room for pytest's folders
LEFT_WITHIN_S = 30


class Driver:
    """A driver process in a session of its own, so that a Ctrl-C reaches all of its processes, as in a terminal."""

    def __init__(self, run_dir: Path, what: str, *, address: str = "local", **environment: str) -> None:
        self.run_dir = run_dir
        # a short folder of its own, in which Ray's would be found
        self.tmp = TMP / f"orz-t{os.getpid()}-{time.monotonic_ns() % 10**6}"
        self.tmp.mkdir()
        self.errors = (run_dir / "stderr").open("w+")
        path = os.pathsep.join([str(FAKES), *filter(None, [os.environ.get("PYTHONPATH")])])  # the sources under test
        self.process = subprocess.Popen(
            [sys.executable, FAKES / "driver.py", run_dir, address, what],
            env=os.environ | {"PYTHONPATH": path, "TMPDIR": str(self.tmp), "OMP_NUM_THREADS": "1"} | environment,
            stdout=subprocess.DEVNULL,
            stderr=self.errors,
            start_new_session=True,
        )

    def left(self) -> dict[str, Any]:
        """Return what the run has made, once it has."""
        end = time.monotonic() + 90
        while not (self.run_dir / "left.json").exists():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < end, "it didn't start"
            time.sleep(0.05)
        return json.loads((self.run_dir / "left.json").read_text())

    def said(self) -> str:
        return (self.run_dir / "stderr").read_text()

    def ended(self) -> int:
        return self.process.wait(timeout=LEFT_WITHIN_S)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Driver]]:
    drivers: list[Driver] = []

    def make(what: str, **options: str) -> Driver:
        drivers.append(Driver(tmp_path, what, **options))
        return drivers[-1]

    yield make
    for driver in drivers:
        driver.process.kill()
        driver.process.wait()
        driver.errors.close()
        subprocess.run(["rm", "-rf", driver.tmp], check=True)


def of_run(driver: Driver) -> list[str]:
    """List the processes that belong to the run: they name its folder, or the temporary one, or are its children."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == driver.process.pid:
            continue
        try:
            words = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
        except OSError:
            continue
        if str(driver.tmp).encode() in words:
            found.append(f"{entry.name} {(entry / 'cmdline').read_bytes()!r}")
    return found


def assert_nothing_left(driver: Driver, made: dict[str, Any]) -> None:
    end = time.monotonic() + LEFT_WITHIN_S

    def remains() -> list[str]:
        shared = [name for name in made["memory"] if (SHARED_MEMORY / name).exists()]
        pids = [str(pid) for pid in made["pids"] if Path(f"/proc/{pid}").exists()]
        folders = [str(path) for path in driver.tmp.glob("orz-ray-*")]
        return [*of_run(driver), *pids, *shared, *folders]

    while remains() and time.monotonic() < end:
        time.sleep(0.1)
    assert [] == remains()


def test_a_run_that_ends_by_itself_leaves_nothing(start: Callable[..., Driver]) -> None:
    """Exit 0, a silent terminal, and neither a process nor a file of Ray's."""
    driver = start("end")
    made = driver.left()
    assert 0 == driver.ended()
    assert_nothing_left(driver, made)
    assert "" == driver.said()


def test_an_exception_of_the_driver_leaves_nothing(start: Callable[..., Driver]) -> None:
    """The exception comes out as it is."""
    driver = start("raise")
    made = driver.left()
    assert 1 == driver.ended()
    assert "ValueError: a mistake of the driver's" in driver.said()
    assert_nothing_left(driver, made)


def test_ctrl_c_twice_leaves_nothing(start: Callable[..., Driver]) -> None:
    """The second Ctrl-C arrives while a worker takes for ever to close; both reach every process of the terminal."""
    driver = start("stuck-closing")
    made = driver.left()
    time.sleep(0.5)
    os.killpg(driver.process.pid, signal.SIGINT)
    time.sleep(1)
    os.killpg(driver.process.pid, signal.SIGINT)
    assert driver.ended() in {-signal.SIGINT, 130}
    assert "KeyboardInterrupt" in driver.said()
    assert_nothing_left(driver, made)


def test_a_killed_driver_leaves_nothing(start: Callable[..., Driver]) -> None:
    """After kill -9 every process goes, its shared memory, and the folder."""
    driver = start("wait")
    made = driver.left()
    driver.process.kill()
    driver.ended()
    assert_nothing_left(driver, made)


def test_a_killed_worker_is_named(start: Callable[..., Driver]) -> None:
    """A rank killed in a collective ends the run at once: role, rank, node, signal, tail of the log."""
    driver = start("wait")
    made = driver.left()
    log = driver.run_dir / "logs" / "policy-1.log"
    while "in a collective" not in log.read_text():
        time.sleep(0.05)
    began = time.monotonic()
    os.kill(made["pids"][1], signal.SIGKILL)
    assert 1 == driver.ended()
    assert time.monotonic() - began < 20
    assert "WorkerDiedError: policy rank 1 (process " in driver.said()
    assert " on this machine) ended by signal 9 (SIGKILL); the last lines of its log:\n" in driver.said()
    assert "  | policy 1 in a collective" in driver.said()
    assert f"see {log}" in driver.said()
    assert "Traceback" not in driver.said()
    assert_nothing_left(driver, made)


def test_a_killed_engine_is_noticed_while_others_work(start: Callable[..., Driver]) -> None:
    """The driver waits for the policy when the engine dies."""
    driver = start("wait")
    made = driver.left()
    os.kill(made["pids"][2], signal.SIGSEGV)
    assert 1 == driver.ended()
    assert "WorkerDiedError: engine 0 (process " in driver.said()
    assert "ended by signal 11 (SIGSEGV)" in driver.said()
    assert_nothing_left(driver, made)


@pytest.fixture(scope="module")
def cluster_address() -> Iterator[str]:
    """A cluster of somebody else's on this machine."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    tmp = TMP / f"orz-r{os.getpid()}"
    command = [
        sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", f"--port={port}", "--num-cpus=2",
        "--include-dashboard=false", "--disable-usage-stats", f"--temp-dir={tmp}", "--object-store-memory=100000000",
        "--node-ip-address=127.0.0.1",
    ]  # fmt: skip
    process = subprocess.Popen(
        command,
        env=os.environ | {"RAY_AUTH_MODE": "disabled", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    end = time.monotonic() + 60
    while not list(tmp.glob("session_*/sockets/raylet*")):
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.1)
    yield f"127.0.0.1:{port}"
    process.terminate()
    process.wait(timeout=30)
    subprocess.run(["rm", "-rf", tmp], check=True)


@pytest.mark.parametrize("what", ["end", "killed"])
def test_a_cluster_that_was_there_stays_up_without_us(
    start: Callable[..., Driver], cluster_address: str, what: str
) -> None:
    """Attached, the run's processes go and the cluster stays, whether the run ends by itself or is killed."""
    driver = start(what, address=cluster_address, RAY_AUTH_MODE="disabled")
    made = driver.left()
    if what == "killed":
        driver.process.kill()
        driver.ended()
    else:
        assert 0 == driver.ended(), driver.said()
    assert_nothing_left(driver, made)
    host, port = cluster_address.split(":")
    socket.create_connection((host, int(port)), timeout=5).close()


def test_auto_sees_a_cluster_that_runs_here(cluster_address: str) -> None:
    """Among the clusters of this machine is the one that `ray start` made, by whatever address it calls itself."""
    assert cluster_address.rpartition(":")[2] in {address.rpartition(":")[2] for address in shared_clusters()}


def test_a_local_run_ignores_a_cluster_that_runs_here(start: Callable[..., Driver], cluster_address: str) -> None:
    """`local` starts its own, whatever RAY_ADDRESS says."""
    driver = start("end", RAY_ADDRESS=cluster_address)
    made = driver.left()
    own = list(driver.tmp.glob("orz-ray-*/session_*"))
    assert 0 == driver.ended(), driver.said()
    assert own
    assert_nothing_left(driver, made)


def test_an_address_where_nothing_answers_is_an_error_at_once(start: Callable[..., Driver]) -> None:
    """Within ten seconds, with what to do."""
    began = time.monotonic()
    driver = start("end", address="127.0.0.1:1")
    assert 1 == driver.ended()
    assert time.monotonic() - began < 15, "five of them are imports"
    assert "ClusterError: cluster.address=127.0.0.1:1: nothing answers at " in driver.said()
    assert "-> give HOST:PORT of the head node" in driver.said()
