"""Memory that does not grow with a checkpoint: commands over one twice as large as all that they may take (F22)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = [pytest.mark.component, pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")]

CHECKPOINT_BYTES = 320 * 1024 * 1024
PEAK_BYTES = 150 * 1024 * 1024
PART_BYTES = 16 * 1024 * 1024

# The peak of this process's own memory: that of `getrusage` begins with the one that it was forked from.
SCRIPT = """
import re, sys
from pathlib import Path
from orz_cli.main import main
code = main(["ckpt", *sys.argv[1:]])
print(code, int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024)
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in one file with one tensor of 160 MB and ten of 16 MB, no number twice in a row."""
    folder = tmp_path_factory.mktemp("large")
    part = np.random.default_rng(0).standard_normal(PART_BYTES // 4, dtype=np.float32).tobytes()
    header, begin = {}, 0
    for name, parts in [("model.large", 10), *((f"model.layers.{number}.w", 1) for number in range(10))]:
        nbytes = parts * PART_BYTES
        header[name] = {"dtype": "F32", "shape": [nbytes // 4096, 1024], "data_offsets": [begin, begin + nbytes]}
        begin += nbytes
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for _ in range(CHECKPOINT_BYTES // PART_BYTES):
            stream.write(part)
    return folder


def peak_of(*arguments: object) -> tuple[int, int]:
    """Run `orz ckpt`; return its exit code and the most memory that it had, in bytes."""
    command = [sys.executable, "-c", SCRIPT, *map(str, arguments)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "" == run.stderr
    code, peak = run.stdout.splitlines()[-1].split()
    return int(code), int(peak)


@pytest.mark.parametrize("level", ["full", "sample", "deep"])
def test_verify(level: str, large: Path) -> None:
    """Every byte is read, within half of the file's size."""
    code, peak = peak_of("verify", large, "--level", level)

    assert 0 == code
    assert peak < PEAK_BYTES


@pytest.mark.parametrize("options", [[], ["--dtype", "bfloat16"], ["--max-shard-size", "20MB"]])
def test_merge(options: list[str], large: Path, tmp_path: Path) -> None:
    """A model larger than the memory is merged, cast and cut into files."""
    code, peak = peak_of("merge", large, tmp_path / "out", *options)

    assert 0 == code
    assert peak < PEAK_BYTES
    written = sum(file.stat().st_size for file in (tmp_path / "out").glob("*.safetensors"))
    assert written > CHECKPOINT_BYTES // (2 if "bfloat16" in options else 1)


def test_the_others(large: Path, tmp_path: Path) -> None:
    """To compare, to describe and to look takes no more."""
    (tmp_path / "copy").mkdir()
    os.link(large / "model.safetensors", tmp_path / "copy" / "model.safetensors")
    for command in (["diff", large, tmp_path / "copy"], ["manifest", tmp_path / "copy"], ["inspect", large]):
        code, peak = peak_of(*command)
        assert 0 == code, command
        assert peak < PEAK_BYTES, command
