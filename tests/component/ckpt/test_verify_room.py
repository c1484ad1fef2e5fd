"""Room for the next save: of a run, and of a step, on the disk of this machine."""

from __future__ import annotations

import errno
import os
import shutil
from typing import TYPE_CHECKING

import pytest

from orz_ckpt.disk.mounts import Mount
from orz_ckpt.findings import Level, Report
from orz_ckpt.node.verifying import verify_pieces
from orz_ckpt.verify import verify
from orz_cli.findings import Severity, Status

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.component


def told(report: Report) -> list[tuple[str, Severity]]:
    return [(entry.path, entry.severity) for entry in report.findings if entry.code == "no_room_for_next"]


def bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def leave(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    """Let every disk state `free` bytes of room, as to a user who may use them."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": free})())


@pytest.mark.parametrize("level", [Level.QUICK, Level.FULL])
def test_run_on_a_full_disk(run: Path, monkeypatch: pytest.MonkeyPatch, level: Level) -> None:
    """One byte less than the newest good step takes is a warning, as much as that is none."""
    newest = run / "checkpoints" / "step_000030"
    leave(monkeypatch, bytes_in(newest) - 1)
    report = verify(run, level=level)

    assert Status.OK is report.status()
    assert [(str(newest.parent), Severity.WARN)] == told(report)
    (found,) = report.findings
    assert "step_000030 takes " in found.message
    assert f"orz ckpt prune {run} --keep-last 2" in found.remedy
    leave(monkeypatch, bytes_in(newest))
    assert [] == told(verify(run, level=level))


def test_the_newest_good_step_counts(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A newest step that a full disk cut off is small; the next one will not be."""
    newest = run / "checkpoints" / "step_000030"
    leave(monkeypatch, bytes_in(run / "checkpoints" / "step_000020") - 1)
    for path in sorted(newest.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()

    assert 1 == len(told(verify(run)))


def test_step_and_what_is_none(step: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step folder is asked about; a model, a part of a step, and a step that was copied elsewhere are not."""
    kept = shutil.copytree(step, tmp_path / "kept")
    leave(monkeypatch, 0)

    assert [(str(step.parent), Severity.WARN)] == told(verify(step))
    assert [[], [], []] == [told(verify(path)) for path in (model, step / "policy", kept)]


def test_piece_on_a_node(step: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nodes verify their pieces each for itself, room is for `orz ckpt preflight` to find."""
    leave(monkeypatch, 0)
    (answer,) = verify_pieces([{"path": str(step), "whole": True}], level="full")

    assert [] == answer["findings"]


def test_disk_that_is_not_written_to(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing is saved any more, or nobody knows of room, nothing is said."""
    leave(monkeypatch, 0)
    for fstype, options in (("ext4", ("ro",)), ("fuse.s3fs", ("rw",))):
        mount = Mount(point="/", root="/", fstype=fstype, source="x", options=options)
        monkeypatch.setattr("orz_ckpt.checks.room.find_mount", lambda _, mount=mount: mount)
        assert [] == told(verify(run))

    def silent(_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("orz_ckpt.checks.room.find_mount", lambda _: None)
    monkeypatch.setattr(shutil, "disk_usage", silent)
    assert [] == told(verify(run))
