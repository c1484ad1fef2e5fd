"""Runs `orz` as a user does: the installed command, in a process and a folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

ORZ = Path(sysconfig.get_path("scripts")) / ("orz.exe" if sys.platform == "win32" else "orz")


@dataclass(frozen=True)
class Result:
    """What a command answered."""

    code: int
    stdout: str
    stderr: str


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """Return an environment without colours and without the network."""
    return {**os.environ, "NO_COLOR": "1", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


@pytest.fixture
def orz(tmp_path: Path, environment: dict[str, str]) -> Callable[..., Result]:
    """Run an `orz` command in the test's folder to its end."""

    def run(*arguments: str, cwd: Path = tmp_path) -> Result:
        done = subprocess.run(
            [str(ORZ), *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=600, check=False
        )
        return Result(done.returncode, done.stdout, done.stderr)

    return run
