"""A disk that is really full, or a file size limit, ends a save cleanly."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.component, pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")]

SAVE = """
import sys
from pathlib import Path
import numpy as np
from safetensors.numpy import save_file
from orz_ckpt.errors import StorageFullError
from orz_ckpt.inventory import newest_committed, step_folder
from orz_ckpt.storage import stage
from orz_ckpt.verify import verify

run = Path(sys.argv[1])
def save(step, count):
    with stage(step_folder(run, step)) as staged:
        (staged.path / "policy").mkdir()
        save_file({"w": np.ones(count, "<f4")}, staged.path / "policy" / "model.safetensors")
        staged.commit(step=step, roles={"policy": "policy"}, writer="test 1")

save(1, 1000)
try:
    save(2, 1_000_000)
except StorageFullError as error:
    assert error.free_bytes is not None
    print(error)
assert newest_committed(run) == step_folder(run, 1)
assert [step_folder(run, 1)] == list((run / "checkpoints").iterdir())
assert verify(run).status().exit_code == 0
save(3, 2000)
assert verify(run).status().exit_code == 0
"""


FEW_INODES = """
import os
others = [run / str(number) for number in range(os.statvfs(run).f_favail - 2)]
for other in others:
    other.touch()
"""
"""Goes before the save that fails: two more files may be made, fewer than a step has."""


def test_file_size_limit(tmp_path: Path) -> None:
    """Past the largest file that the user may write: the error says so, nothing half-written stays."""
    source = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))\n{SAVE}"
    run = subprocess.run([sys.executable, "-c", source, tmp_path], capture_output=True, text=True, check=False)

    assert (0, "") == (run.returncode, run.stderr)
    assert f"{tmp_path / 'checkpoints' / 'step_000002'} was not saved" in run.stdout
    assert "older checkpoints are as they were" in run.stdout


def saved_on_a_disk(own_mounts: list[str], folder: Path, options: str, script: str) -> str:
    """Run a script with a new, small disk as its argument; return what it printed."""
    (folder / "save.py").write_text(script, encoding="utf-8")
    disk = folder / "disk"
    disk.mkdir()
    words = 'mount -t tmpfs -o "$4" none "$1" && exec "$2" "$3" "$1"'
    command = [*own_mounts, "sh", "-c", words, "sh", disk, sys.executable, folder / "save.py", options]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (0, "") == (run.returncode, run.stderr)
    return run.stdout


def test_full_disk(own_mounts: list[str], tmp_path: Path) -> None:
    """On a disk of 2 MB a checkpoint of 4 MB is refused with the bytes needed and free, and a small one still fits."""
    said = saved_on_a_disk(own_mounts, tmp_path, "size=2m", SAVE)
    assert "No space left on device" in said
    assert "free some space" in said


def test_disk_without_inodes(own_mounts: list[str], tmp_path: Path) -> None:
    """Where bytes are free and no other file may be made, files have to go, and then a step of that size is saved."""
    steps = SAVE.replace("try:\n    save(2, 1_000_000)", f"{FEW_INODES}try:\n    save(2, 2000)")
    steps = steps.replace("save(3, 2000)", "for other in others:\n    other.unlink()\nsave(3, 2000)")
    said = saved_on_a_disk(own_mounts, tmp_path, "size=50m,nr_inodes=100", steps)
    assert "but no other file may be made; older checkpoints are as they were" in said
    assert "remove files that nobody needs" in said
    assert "free some space" not in said
