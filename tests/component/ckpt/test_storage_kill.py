"""A save killed at any write leaves the older checkpoint whole, and the new one committed or plainly not."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from orz_ckpt.findings import Severity
from orz_ckpt.inventory import list_checkpoints, newest_committed, step_folder
from orz_ckpt.storage import stage
from orz_ckpt.verify import verify
from orz_cli.findings import Status

pytestmark = [
    pytest.mark.component,
    pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL and fork"),
]

HERE = Path(__file__).parent


def commit(run: Path, step: int, content: bytes) -> None:
    with stage(step_folder(run, step)) as staged:
        (staged.path / "policy").mkdir()
        (staged.path / "policy" / "notes.txt").write_bytes(content)
        staged.commit(step=step, roles={}, writer="test 1")


@pytest.mark.parametrize("leftover", [False, True], ids=["clean", "over_a_leftover"])
def test_killed_at_every_write(tmp_path: Path, leftover: bool) -> None:
    """Whenever SIGKILL comes, readers see step 1 or a whole step 2; and the next save succeeds."""
    template = tmp_path / "template"
    commit(template, 1, b"one")
    if leftover:
        commit(template, 2, b"unfinished")
        (step_folder(template, 2) / "manifest.json").unlink()
    scratch = tmp_path / "runs"
    scratch.mkdir()
    script = [sys.executable, str(HERE / "kill_at.py"), str(template), str(scratch)]
    lines = subprocess.run(script, capture_output=True, text=True, check=True).stdout.splitlines()
    outcomes = [line.split()[1] for line in lines]
    seen = set()
    for number in range(len(outcomes)):
        run = scratch / f"{number:03d}"
        newest = newest_committed(run)
        assert newest is not None
        seen.add(newest.name)
        assert Status.OK is verify(step_folder(run, 1)).status()
        for checkpoint in list_checkpoints(run):
            report = verify(checkpoint.path)
            errors = {entry.code for entry in report.findings if entry.severity is Severity.ERROR}
            if checkpoint.committed:
                assert Status.OK is report.status()
            else:
                assert "uncommitted" in errors
        if newest == step_folder(run, 1):
            commit(run, 2, b"again")
            assert Status.OK is verify(run).status()

    assert ["killed"] * (len(outcomes) - 1) + ["done"] == outcomes
    assert len(outcomes) > 20
    assert {"step_000001", "step_000002"} == seen
    shutil.rmtree(scratch)
