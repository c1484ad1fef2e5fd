"""Steps and runs that are sound but for what lies around them: states, manifests, times.

Covers F31 lost states and F36 times that say nothing of the order.
"""

from __future__ import annotations

import os
import shutil
import time
from typing import TYPE_CHECKING

import pytest

from orz_ckpt.findings import Level, Report
from orz_ckpt.inventory import step_folder
from orz_ckpt.storage import stage
from orz_ckpt.verify import verify
from orz_cli.findings import Severity, Status

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.component


def codes(report: Report) -> set[str]:
    return {entry.code for entry in report.findings if entry.severity is not Severity.INFO}


def notes(report: Report) -> set[str]:
    return {entry.code for entry in report.findings if entry.severity is Severity.INFO}


def test_lost_state(step: Path, tmp_path: Path) -> None:
    """A committed checkpoint without states can be used and not trained on: a note (F31)."""
    final = step_folder(tmp_path / "other", 1)
    with stage(final) as staged:
        shutil.copytree(step / "policy", staged.path / "policy")
        staged.commit(step=1, roles={"policy": "policy"}, writer="test 1")

    assert ("no_state" in notes(verify(final)), "no_state" in notes(verify(step))) == (True, False)


def test_step_of_the_original(step: Path) -> None:
    """`iter50/policy`, as the original Open-Reasoner-Zero saves, is a foreign folder: no manifest is missing."""
    target = step.parent / "iter50"
    target.mkdir()
    for role in ("policy", "critic"):
        (step / role).rename(target / role)
    report = verify(target)

    assert (Status.OK, set(), "folder") == (report.status(), codes(report), report.kind)
    assert 2 == len(report.parts)


def test_time_is_no_order(run: Path) -> None:
    """The newest step is that of the highest number, whatever clocks and copies did to times (F36)."""
    for number, age in ((10, 0), (20, 1000), (30, 2000)):
        folder = run / "checkpoints" / f"step_{number:06d}"
        for path in [folder, *folder.rglob("*")]:
            os.utime(path, (time.time() - age, time.time() - age))
    (run / "checkpoints" / "step_000030" / "manifest.json").unlink()
    report = verify(run, level=Level.QUICK)

    assert (Status.FAILED, True) == (report.status(), report.newest_good.endswith("step_000020"))
