"""A library that writes to a file of ours: the bytes are its own, and a disk that fails is not lost on the way."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import torch

from orz_ckpt.disk.hashed_writing import hashed

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.component

SAVE = """
import errno, resource, sys
from pathlib import Path
import torch
from orz_ckpt.disk.hashed_writing import hashed

path, limit = Path(sys.argv[1]), int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    with hashed(path) as file:
        torch.save({"a": torch.ones(100_000), "b": torch.ones(10)}, file)
except OSError as error:
    assert (errno.EFBIG, str(path)) == (error.errno, error.filename), repr(error)
    assert path.stat().st_size <= limit
    print("refused")
"""


def test_the_bytes_are_the_library_s(tmp_path: Path) -> None:
    """What `torch.save` writes through it is what it writes to an open file: nothing added, nothing missing."""
    state = {"a": torch.arange(100_000.0), "b": [torch.ones(3), "text"]}
    with hashed(tmp_path / "ours") as file:
        torch.save(state, file)
    with (tmp_path / "theirs").open("wb") as stream:
        torch.save(state, stream)

    assert (tmp_path / "theirs").read_bytes() == (tmp_path / "ours").read_bytes()


@pytest.mark.skipif(sys.platform != "linux", reason="a limit of files' sizes, as Linux has it")
@pytest.mark.parametrize("limit", [0, 10, 700, 100_000, 400_500])
def test_wherever_the_limit_lies(limit: int, tmp_path: Path) -> None:
    """The system's error arrives with its number and the file's name, in whichever part of the archive it came."""
    command = [sys.executable, "-c", SAVE, tmp_path / "state.pt", str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (0, "refused\n", "") == (done.returncode, done.stdout, done.stderr)


@pytest.mark.skipif(sys.platform != "linux", reason="a limit of files' sizes, as Linux has it")
def test_what_the_system_takes_in_parts(tmp_path: Path) -> None:
    """A write of which the system takes a part goes on with the rest: it is all there, or it has failed."""
    source = SAVE.replace('torch.save({"a": torch.ones(100_000), "b": torch.ones(10)}, file)', 'file.write(b"x" * 100)')
    assert source != SAVE
    command = [sys.executable, "-c", source, tmp_path / "x", "50"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (0, "refused\n", "") == (done.returncode, done.stdout, done.stderr)
    assert 50 == (tmp_path / "x").stat().st_size


def test_an_error_of_the_writer_s_own(tmp_path: Path) -> None:
    """What is not of the disk passes as it is."""
    with pytest.raises(ZeroDivisionError), hashed(tmp_path / "x"):
        raise ZeroDivisionError

    assert b"" == (tmp_path / "x").read_bytes()
