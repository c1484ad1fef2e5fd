"""A worker that dies on another node, whose log is on that node's own disk."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.cluster]

FAKES = Path(__file__).parents[2] / "component" / "train" / "cluster" / "fakes"
TIMEOUT_S = 120.0


@pytest.fixture
def start(training_nodes, tmp_path: Path) -> Iterator[Callable[[], tuple[subprocess.Popen[str], dict[str, list[int]]]]]:
    """Start a driver on the head, with policy rank 0 there and rank 1 on the other node; return what it has started."""
    head, address = training_nodes.head, training_nodes.address
    run_dir = tmp_path / "ckpt" / "run"
    head.check("mkdir", run_dir)
    drivers = []

    def begin() -> tuple[subprocess.Popen[str], dict[str, list[int]]]:
        driver = subprocess.Popen(
            [*head.entered(), sys.executable, FAKES / "driver.py", run_dir, address, "wait", "1"],
            env=head.environment | {"PYTHONPATH": f"{FAKES}:{head.environment['PYTHONPATH']}"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        drivers.append(driver)
        end = time.monotonic() + TIMEOUT_S
        while (left := head.run("cat", run_dir / "left.json")).code != 0:
            assert driver.poll() is None, driver.stderr and driver.stderr.read()
            assert time.monotonic() < end, "it didn't start"
            time.sleep(0.2)
        return driver, json.loads(left.stdout)

    yield begin
    for driver in drivers:
        driver.kill()
        driver.communicate()


def test_what_died_on_another_node_is_named(training_nodes, start: Callable[..., object], tmp_path: Path) -> None:
    """The driver's disk has no log of it; its node is asked for the signal and for the last lines."""
    log = tmp_path / "ckpt" / "run" / "logs" / "policy-1.log"
    old = "orz-train: policy rank 1, process 7, ended at 100.500 with exit status 3"
    for node in (training_nodes.head, training_nodes.other):  # of an earlier run, on both disks
        node.check("mkdir", "-p", log.parent)
        node.check("sh", "-c", f"echo '{old}' > {log}")
    driver, left = start()
    while "in a collective" not in training_nodes.other.check("cat", log):
        time.sleep(0.1)
    training_nodes.other.check("kill", "-KILL", left["pids"][1])
    said = driver.communicate(timeout=TIMEOUT_S)[1]
    assert 1 == driver.returncode, said
    assert f"policy rank 1 (process {left['pids'][1]} on 10.99.0.2) ended by signal 9 (SIGKILL); the last" in said
    assert "  | policy 1 in a collective" in said
    assert f"see {log} on 10.99.0.2; then go on" in said
