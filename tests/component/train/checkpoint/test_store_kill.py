"""SIGKILL during a save of a run, and a disk that is really full: the last good checkpoint is what a reader sees."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orz_ckpt.inventory import list_checkpoints, newest_committed, step_folder
from orz_ckpt.verify import verify
from orz_cli.findings import Status

pytestmark = [
    pytest.mark.component,
    pytest.mark.skipif(sys.platform != "linux", reason="needs fork, SIGKILL and small disks"),
]

HERE = Path(__file__).parent
MOMENTS = 20


@pytest.mark.parametrize("way", ["now", "background"])
def test_killed_at_twenty_random_moments(
    tmp_path: Path, run_dir: Path, store: Callable[..., Any], ranks: Any, config: Callable[..., Any], way: str
) -> None:
    """A reader sees the old checkpoint or the new one, whole; the next run cleans up, saves, and keeps what it is to.

    The kills are before the commit and after it, where the old one is on its way out.
    """
    model = ranks()
    model.value = 1.0
    with store(model) as saves:
        saves.save(1, skipped_in_a_row={})
    (run_dir / "checkpoints" / "step_000002.tmp-earlier" / "policy").mkdir(parents=True)
    scratch = tmp_path / "killed"
    scratch.mkdir()
    command = [sys.executable, HERE / "kill_at.py", run_dir, scratch, way, str(MOMENTS)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert int(lines[0]) > MOMENTS
    assert MOMENTS == len([line for line in lines[1:] if "survived" not in line]), lines
    seen = set()
    half_deleted = 0
    for number in range(MOMENTS):
        run = scratch / f"{number:03d}"
        newest = newest_committed(run)
        assert newest is not None
        seen.add(newest.name)
        assert Status.OK is verify(newest).status()
        half_deleted += any(path.name.startswith(".trash-") for path in newest.parent.iterdir())
        again = ranks()
        again.value = 3.0
        subject = type(saves)(run, {"policy": again}, config(keep=1), saves.sink)
        with subject:
            subject.save(3, skipped_in_a_row={})
        # step 2 has its name before its manifest, and so long it may be what another node's parts belong to
        named = set() if newest == step_folder(run, 2) else {"step_000002"}
        assert {"step_000003"} <= {path.name for path in (run / "checkpoints").iterdir()} <= {"step_000003", *named}
        assert [3] == [one.step for one in list_checkpoints(run) if one.committed]
        assert Status.OK is verify(step_folder(run, 3)).status()
    assert {"step_000001", "step_000002"} == seen
    assert half_deleted


FULL_DISK = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from conftest import Ranks, make_config
from orz_ckpt.errors import StorageFullError
from orz_ckpt.inventory import list_checkpoints
from orz_ckpt.verify import verify
from orz_train.checkpoint import RunCheckpoints
from orz_train.testing import MemorySink

import numpy
from safetensors.numpy import save_file

run, sink, model = Path(sys.argv[1]) / "run", MemorySink(), Ranks()
large = {"count": 1000}
def weights(folder, value):
    save_file({"w": numpy.full(large["count"], value, "<f4")}, folder / "model.safetensors")
model._weights = weights
settings = {"preflight": "off", "asynchronous": sys.argv[3] == "background"}
with RunCheckpoints(run, {"policy": model}, make_config(on_failure="warn", **settings), sink) as saves:
    for step, count in ((1, 300_000), (2, 300_000), (3, 1000)):
        large["count"] = count
        saves.save(step, skipped_in_a_row={})
        saves.settle()
warnings = [data["message"] for name, _, data in sink.events if name == "warning"]
assert len(warnings) == 1, warnings
print(warnings[0])
assert [1, 3] == [one.step for one in list_checkpoints(run) if one.committed]
assert ["step_000001", "step_000003"] == sorted(path.name for path in (run / "checkpoints").iterdir())
assert verify(run).status().exit_code == 0
large["count"] = 1_000_000
try:
    with RunCheckpoints(run, {"policy": model}, make_config(**settings), sink) as saves:
        saves.save(4, skipped_in_a_row={})
except StorageFullError as error:
    print("stopped")
assert ["step_000001", "step_000003"] == sorted(path.name for path in (run / "checkpoints").iterdir())
"""


@pytest.mark.parametrize("way", ["now", "background"])
def test_a_disk_that_is_really_full(tmp_path: Path, way: str) -> None:
    """Two of 1.2 MB don't fit on 2 MB: named with node, number, bytes needed and free; a smaller one still fits."""
    in_namespace = ["unshare", "--user", "--map-root-user", "--mount"]
    tried = shutil.which("unshare") and subprocess.run([*in_namespace, "true"], capture_output=True, check=False)
    if not tried or tried.returncode:
        pytest.skip("this system lets no user mount a small disk")
    (tmp_path / "save.py").write_text(FULL_DISK, encoding="utf-8")
    disk = tmp_path / "disk"
    disk.mkdir()
    script = 'mount -t tmpfs -o size=2m none "$1" && exec "$2" "$3" "$1" "$4" "$5"'
    command = [*in_namespace, "sh", "-c", script, "sh", disk, sys.executable, tmp_path / "save.py", HERE, way]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (0, "") == (done.returncode, done.stderr)
    assert "step_000002 was not saved on " in done.stdout
    assert "ENOSPC" in done.stdout
    assert "the run goes on without it" in done.stdout
    said = re.search(r"needs at least ([\d,]+) bytes; [\d,]+ bytes had been written, ([\d,]+) are free", done.stdout)
    assert said is not None, done.stdout
    needed, free = (int(number.replace(",", "")) for number in said.groups())
    assert f"are free on tmpfs from none at {disk}; " in done.stdout
    assert 1_200_000 < needed < 1_210_000, "as the one before"
    assert 500_000 < free < needed
    assert done.stdout.endswith("stopped\n")
