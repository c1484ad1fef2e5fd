"""SIGKILL while a checkpoint is on its way to a store: nothing there looks whole, and the next start brings it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from orz_ckpt.copy.place import steps_there
from orz_ckpt.inventory import list_checkpoints
from orz_ckpt.verify import verify
from orz_cli.findings import Status

pytestmark = [pytest.mark.component, pytest.mark.skipif(sys.platform != "linux", reason="needs SIGKILL")]

SCRIPT = Path(__file__).with_name("copy_kill_at.py")
KILLED = -9

Save = Callable[[int, object], subprocess.CompletedProcess[str]]


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    """The run's folder in the store."""
    return tmp_path / "store" / "bucket" / "runs" / "run"


@pytest.fixture
def save(tmp_path: Path, run_dir: Path) -> Save:
    """Start a process that saves a step, and is killed after so many writes to the store, or at the `end`."""

    def call(step: int, writes: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, SCRIPT, run_dir, tmp_path / "store", str(step), str(writes)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return call


def whole(bucket: Path) -> list[int]:
    """Return the steps whose copies are there, each byte as it was."""
    found = steps_there(f"file://{bucket}")
    for step in found:
        report = verify(bucket / "checkpoints" / f"step_{step:06d}", require_manifest=True)
        assert Status.OK is report.status(), report.findings
    return found


@pytest.mark.parametrize("writes", [0, 1, 4, 6])
def test_killed_while_copying(run_dir: Path, bucket: Path, save: Save, writes: int) -> None:
    """Before the first write, among the files, and before the manifest."""
    killed = save(1, writes)
    assert KILLED == killed.returncode, killed
    assert [] == whole(bucket)
    assert [1] == [one.step for one in list_checkpoints(run_dir) if one.committed]
    again = save(2, -1)
    assert (0, "") == (again.returncode, again.stderr)
    assert 2 == again.stdout.count("checkpoint_copied")
    assert [1, 2] == whole(bucket)
    assert [2] == [one.step for one in list_checkpoints(run_dir) if one.committed]


def test_killed_between_the_manifest_and_the_end(run_dir: Path, bucket: Path, save: Save) -> None:
    """The copy is whole though it looks begun; the next start ends it, and nothing that says otherwise is left."""
    killed = save(1, "end")
    assert KILLED == killed.returncode, killed
    left = bucket / "checkpoints" / "step_000001" / ".orz" / "copying"
    assert ([1], True) == (whole(bucket), left.is_file())
    again = save(2, -1)
    assert (0, "") == (again.returncode, again.stderr)
    assert ([1, 2], []) == (whole(bucket), list(bucket.rglob("copying")))
    assert [2] == [one.step for one in list_checkpoints(run_dir) if one.committed]
