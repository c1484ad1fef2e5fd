"""A disk that takes no more of what a run writes about itself: one clear error, and nothing of anybody's thread."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.component, pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")]

SCRIPT = """
import os, sys
from pathlib import Path
from orz_monitor.records import StepRecord
from orz_train.runlog.errors import LogWriteError
from orz_train.runlog.rollouts import write_rollouts
from orz_train.runlog.tensorboard import TensorBoardLog

disk, what = Path(sys.argv[1]), sys.argv[2]
log = TensorBoardLog(disk / "tensorboard")

def scalars(step):
    metrics = {f"metric{number}": 0.5 for number in range(500)}
    log.write(StepRecord(step=step, time=1.0 + step, metrics=metrics, seconds={}))

def rollouts(step):
    write_rollouts(disk / "rollouts", step, (), max_rows=1)

scalars(1), rollouts(1)
if what == "bytes":
    with open(disk / "fill", "wb", buffering=0) as fill:
        while True:
            try:
                fill.write(bytes(4096))
            except OSError:
                break
else:
    for number in range(os.statvfs(disk).f_favail):
        (disk / str(number)).touch()
try:
    {"bytes": scalars, "inodes": rollouts}[what](2)
except LogWriteError as error:
    print(error.message, "->", error.remedy)
try:
    log.close()
except LogWriteError:
    print("what was left could not be written")
"""
GO_ON = "then go on with `orz train ... --run-dir DIR --resume auto`\n"


def said(folder: Path, what: str) -> str:
    """Return what the script says once its small disk has no more of `what`; nothing else may be said."""
    unshare = ["unshare", "--user", "--map-root-user", "--mount"]
    if not shutil.which(unshare[0]) or subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system lets no user mount a disk")
    disk = folder / "disk"
    disk.mkdir()
    words = 'mount -t tmpfs -o size=1m,nr_inodes=50 none "$0" && exec "$@"'
    command = [*unshare, "sh", "-c", words, disk, sys.executable, "-c", SCRIPT, disk, what]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (0, "") == (done.returncode, done.stderr)
    return done.stdout


def test_a_disk_that_was_filled(tmp_path: Path) -> None:
    """TensorBoard's files meet it: no thread prints its traceback before the error, or beside it."""
    room = f"{tmp_path}/disk/tensorboard: can't be written: No space left on device -> free some space or repair the"
    assert f"{room} folder, {GO_ON}what was left could not be written\n" == said(tmp_path, "bytes")


def test_a_disk_without_inodes(tmp_path: Path) -> None:
    """The rollouts' new file meets it: bytes are free, so to free some is no help."""
    path = tmp_path / "disk" / "rollouts" / "step_000002.parquet"
    (line,) = said(tmp_path, "inodes").splitlines(keepends=True)
    assert line.startswith(f"{path}: can't be written: ")
    assert line.endswith(f" -> it has no inodes left, of which every file takes one: remove some files, {GO_ON}")
