"""A merge killed at any moment leaves no OUT or the whole of it, and the next run completes it."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from safetensors.numpy import save_file

from orz_ckpt.manifest import MANIFEST_NAME, load
from orz_ckpt.merge.run import Options, merge
from orz_ckpt.sources import open_source
from orz_ckpt.verify import verify
from orz_cli.findings import Status

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.component,
    pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL and preadv"),
]

KILLS = 20
OPTIONS = Options(dtype="BF16", max_shard_bytes=400_000, jobs=2)
MERGE = """
import sys
from pathlib import Path
from orz_ckpt.merge.run import Options, merge
from orz_ckpt.sources import open_source
source = open_source(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
merge(source, Path(sys.argv[2]), Options(dtype="BF16", max_shard_bytes=400_000, jobs=2))
print("done", flush=True)
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 24 shards of 0.4 MB once it is merged."""
    folder = tmp_path_factory.mktemp("source")
    numbers = np.random.default_rng(0)
    tensors = {f"layers.{index}.w": numbers.standard_normal((400, 500), dtype=np.float32) for index in range(24)}
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text('{"architectures": ["Other"]}', encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def expected(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an undisturbed merge gives."""
    out = tmp_path_factory.mktemp("expected") / "out"
    merge(open_source(source), out, OPTIONS)
    return out


def start(source: Path, out: Path) -> subprocess.Popen[str]:
    """Start a merge that waits for a line before it begins."""
    command = [sys.executable, "-c", MERGE, str(source), str(out)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert "ready\n" == process.stdout.readline()
    return process


def killed_after(process: subprocess.Popen[str], delay_s: float) -> bool:
    """Let it begin, kill it after a while, and say whether it had not come to its end."""
    with process:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
        time.sleep(delay_s)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        return process.stdout.read() != "done\n"


def moments(longest_s: float) -> Iterator[float]:
    """Moments spread over a merge, early and late ones alike."""
    chance = random.Random(0)  # noqa: S311  no secret
    for number in range(KILLS):
        yield longest_s * (number + chance.random()) / KILLS


def test_killed_at_random_moments(source: Path, expected: Path, tmp_path: Path) -> None:
    """After SIGKILL a reader sees nothing or all of it; the next run gives the undisturbed bytes and cleans up."""
    root = load(expected / MANIFEST_NAME).root_sha256
    begin = time.perf_counter()
    with start(source, tmp_path / "measured") as process:
        begin = time.perf_counter()
        process.communicate("\n")
        longest_s = time.perf_counter() - begin
    interrupted = kept = 0
    for number, moment in enumerate(moments(longest_s)):
        out = tmp_path / f"out{number}"
        interrupted += killed_after(start(source, out), moment)
        if out.exists():
            names = {file.name for file in expected.iterdir()}
            assert names - {MANIFEST_NAME} <= {file.name for file in out.iterdir()}
            whole = Status.OK if (out / MANIFEST_NAME).exists() else Status.FAILED
            assert whole is verify(out).status()
        merged = merge(open_source(source), out, OPTIONS)
        kept += merged.kept
        assert root == load(out / MANIFEST_NAME).root_sha256
        assert Status.OK is verify(out).status()
        assert sorted(file.name for file in expected.iterdir()) == sorted(file.name for file in out.iterdir())
        assert not out.with_name(f"{out.name}.tmp-merge").exists()
        shutil.rmtree(out)

    assert interrupted > KILLS // 4
    assert kept > 0


@pytest.mark.parametrize("name", ["rename", "replace"])
def test_killed_between_rename_and_manifest(source: Path, expected: Path, tmp_path: Path, name: str) -> None:
    """Killed right before or right after the folder gets its name, the next run commits what is there."""
    script = f"""
import os, sys
from pathlib import Path
real = Path.{name}
def die(self, target):
    if str(target).endswith(("out", "manifest.json")):
        if {name == "replace"}:
            os.kill(os.getpid(), 9)
        real(self, target)
        os.kill(os.getpid(), 9)
    return real(self, target)
Path.{name} = die
{MERGE}"""
    out = tmp_path / "out"
    command = [sys.executable, "-c", script, str(source), str(out)]
    process = subprocess.run(command, input="\n", capture_output=True, text=True, check=False)

    assert -signal.SIGKILL == process.returncode
    assert not (out / MANIFEST_NAME).exists()
    assert (out / ".orz" / "manifest.pending").is_file()
    assert Status.FAILED is verify(out).status()
    inode = os.stat(out / "model-00001-of-00024.safetensors").st_ino  # noqa: PTH116  Path.stat is what is tested
    merged = merge(open_source(source), out, OPTIONS)
    assert merged.was_there
    assert load(expected / MANIFEST_NAME).root_sha256 == load(out / MANIFEST_NAME).root_sha256
    assert inode == (out / "model-00001-of-00024.safetensors").stat().st_ino
    assert not (out / ".orz").exists()
    assert Status.OK is verify(out).status()


def test_killed_while_the_notes_are_removed(source: Path, tmp_path: Path) -> None:
    """Killed after the commit, the next run finds the merge finished and removes what is left of its notes."""
    script = f"""
import os, shutil
shutil.rmtree = lambda path: os.kill(os.getpid(), 9)
{MERGE}"""
    out = tmp_path / "out"
    command = [sys.executable, "-c", script, str(source), str(out)]
    process = subprocess.run(command, input="\n", capture_output=True, text=True, check=False)

    assert -signal.SIGKILL == process.returncode
    assert (out / MANIFEST_NAME).is_file()
    assert (out / ".orz").is_dir()
    merged = merge(open_source(source), out, OPTIONS)
    assert merged.was_there
    assert not (out / ".orz").exists()
    assert Status.OK is verify(out).status()
