"""Whom the guard of a Ray session takes for part of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from orz_train.cluster import guard

pytestmark = pytest.mark.component

Started = dict[str, int]
HOLD = "import sys; file = open(sys.argv[1], sys.argv[2]); print('open', flush=True); sys.stdin.read()"


@pytest.fixture
def holders(tmp_path: Path) -> Iterator[Started]:
    """Start a process that reads a log of the session, one that writes there, and one that carries its mark."""
    log = tmp_path / "session" / "raylet.out"
    log.parent.mkdir()
    log.touch()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.touch()
    marked = {**os.environ, guard.MARK: str(log.parent)}
    with ExitStack() as stack:

        def start(path: Path, mode: str, environment: dict[str, str]) -> int:
            command = [sys.executable, "-c", HOLD, str(path), mode]
            process = stack.enter_context(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
            )
            assert process.stdout is not None
            assert b"open\n" == process.stdout.readline()
            return process.pid

        yield {
            "reads": start(log, "r", dict(os.environ)),
            "writes": start(log, "a", dict(os.environ)),
            "marked": start(elsewhere, "r", marked),
        }


def test_who_only_reads_there_is_a_stranger(holders: Started, tmp_path: Path) -> None:
    """A `tail -f` of a log is left alone; whoever writes there, or carries the mark, belongs to the session."""
    found = guard.of_session(str(tmp_path / "session"))
    assert {holders["writes"], holders["marked"]} == set(found)
