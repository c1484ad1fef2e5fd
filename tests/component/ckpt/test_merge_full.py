"""A disk that is too small or becomes full while merging: said clearly, nothing half-made, and gone on with later."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from orz_ckpt.errors import StorageError
from orz_ckpt.merge.run import Options, merge
from orz_ckpt.sources import open_source
from orz_ckpt.verify import verify
from orz_cli.findings import Status

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.component, pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")]

MERGE = """
import sys
from pathlib import Path
from orz_ckpt.errors import StorageFullError
from orz_ckpt.merge import run
from orz_ckpt.merge.run import Options, merge
from orz_ckpt.sources import open_source
source, out = Path(sys.argv[1]), Path(sys.argv[2])
if sys.argv[3] == "blind":  # somebody else takes the space after it was found to be there
    run._Merge._refuse_small_disk = lambda *_: None
try:
    merge(open_source(source), out, Options(max_shard_bytes=500_000, jobs=2))
except StorageFullError as error:
    print(error)
print(sorted(entry.name for entry in out.parent.iterdir()))
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A model of 4 MB in ten tensors."""
    folder = tmp_path / "source"
    folder.mkdir()
    numbers = np.random.default_rng(0)
    tensors = {f"layers.{index}.w": numbers.standard_normal((100, 1000), dtype=np.float32) for index in range(10)}
    save_file(tensors, folder / "model.safetensors")
    return folder


def on_small_disk(tmp_path: Path, source: Path, mode: str) -> subprocess.CompletedProcess[str]:
    """Merge onto a disk of 2 MB, which goes away afterwards."""
    in_namespace = ["unshare", "--user", "--map-root-user", "--mount"]
    if (
        not shutil.which("unshare")
        or subprocess.run([*in_namespace, "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("this system lets no user mount a small disk")
    (tmp_path / "merge.py").write_text(MERGE, encoding="utf-8")
    disk = tmp_path / "disk"
    disk.mkdir()
    script = 'mount -t tmpfs -o size=2m none "$1" && exec "$2" "$3" "$4" "$1/out" "$5"'
    command = [*in_namespace, "sh", "-c", script, "sh", disk, sys.executable, tmp_path / "merge.py", source, mode]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_small_disk(tmp_path: Path, source: Path) -> None:
    """A disk with too little room is refused before anything is written, with the bytes needed and free."""
    run = on_small_disk(tmp_path, source, "look")

    assert (0, "") == (run.returncode, run.stderr)
    assert "was not written: it needs" in run.stdout
    assert "2,0" in run.stdout  # bytes free
    assert "[]" == run.stdout.splitlines()[-1]


def test_full_disk(tmp_path: Path, source: Path) -> None:
    """A disk that becomes full half-way: the error says so, and that the same command goes on from what is kept."""
    run = on_small_disk(tmp_path, source, "blind")

    assert (0, "") == (run.returncode, run.stderr)
    assert "No space left on device" in run.stdout
    assert "run the same command again: it goes on where it stopped" in run.stdout
    assert "['out.tmp-merge']" == run.stdout.splitlines()[-1]


def test_file_size_limit_then_more_room(tmp_path: Path, source: Path) -> None:
    """Past the largest file that the user may write nothing is published; with the limit gone the merge completes."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))\n"
    out = tmp_path / "out"
    command = [sys.executable, "-c", limit + MERGE, source, out, "blind"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (0, "") == (run.returncode, run.stderr)
    assert f"{out} was not written: File too large" in run.stdout
    assert "out'" not in run.stdout.splitlines()[-1]
    merge(open_source(source), out, Options(max_shard_bytes=500_000))
    assert Status.OK is verify(out).status()
    expected = load_file(source / "model.safetensors")
    got = {name: array for file in out.glob("*.safetensors") for name, array in load_file(file).items()}
    assert expected.keys() == got.keys()
    assert all(expected[name].tobytes() == got[name].tobytes() for name in expected)


def test_read_only(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where this user may not write, the error names the folder and says to check it."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system", str(tmp_path / "out.tmp-merge"))

    monkeypatch.setattr("orz_ckpt.merge.journal.make_folders", refuse)
    with pytest.raises(StorageError, match=r"Read-only file system(.|\n)*may write to"):
        merge(open_source(source), tmp_path / "out")
