"""SIGKILL while a checkpoint is on its way to a store: nothing there looks whole, and the next start brings it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from orz_ckpt.copy.place import steps_there
from orz_ckpt.inventory import list_checkpoints
from orz_ckpt.verify import verify
from orz_cli.findings import Status

pytestmark = [pytest.mark.component, pytest.mark.skipif(sys.platform != "linux", reason="needs SIGKILL")]

SCRIPT = Path(__file__).with_name("copy_kill_at.py")
KILLED = -9


@pytest.mark.parametrize("writes", [0, 1, 4, 6])
def test_killed_while_copying(tmp_path: Path, run_dir: Path, writes: int) -> None:
    """Before the first write, among the files, and before the manifest."""
    there = f"file://{tmp_path}/store/bucket/runs/run"

    def save(step: int, writes: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, SCRIPT, run_dir, tmp_path / "store", str(step), str(writes)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    killed = save(1, writes)
    assert KILLED == killed.returncode, killed
    assert [] == steps_there(there)
    assert [1] == [one.step for one in list_checkpoints(run_dir) if one.committed]
    again = save(2, -1)
    assert (0, "") == (again.returncode, again.stderr)
    assert 2 == again.stdout.count("checkpoint_copied")
    assert [1, 2] == steps_there(there)
    for step in (1, 2):
        copied = tmp_path / "store" / "bucket" / "runs" / "run" / "checkpoints" / f"step_{step:06d}"
        assert Status.OK is verify(copied, require_manifest=True).status()
    assert [2] == [one.step for one in list_checkpoints(run_dir) if one.committed]
