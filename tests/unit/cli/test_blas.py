"""How many threads numpy starts in a command."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from orz_cli.blas import one_thread

pytestmark = pytest.mark.unit

VARIABLE = "OPENBLAS_NUM_THREADS"
PROGRAM = """
import os, sys
from orz_cli.main import main
main([*sys.argv[1:], "no-such-thing"])
import numpy
print(len(os.listdir("/proc/self/task")))
"""


def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it is one."""
    monkeypatch.setenv(VARIABLE, "3")
    one_thread()
    assert "3" == os.environ[VARIABLE]
    monkeypatch.delenv(VARIABLE)
    one_thread()
    assert "1" == os.environ[VARIABLE]


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
@pytest.mark.parametrize("command", [("ckpt", "inspect"), ("monitor", "check")])
def test_a_command_has_no_thread_but_its_own(command: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """numpy, imported by it or after it, starts none."""
    monkeypatch.delenv(VARIABLE, raising=False)
    done = subprocess.run([sys.executable, "-c", PROGRAM, *command], check=True, capture_output=True, text=True)
    assert "1" == done.stdout.splitlines()[-1]
