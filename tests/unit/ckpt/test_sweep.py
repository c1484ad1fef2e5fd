"""What a killed save left in flight is swept away, and nothing else below the folder of checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest

from orz_ckpt.node.saving import sweep

pytestmark = pytest.mark.unit


def make(checkpoints: Path, *names: str) -> None:
    for name in names:
        (checkpoints / name).mkdir(parents=True)
        (checkpoints / name / "weights").write_text(name)


def names(checkpoints: Path) -> list[str]:
    return sorted(path.name for path in checkpoints.iterdir())


def test_saves_in_flight_are_removed(tmp_path: Path) -> None:
    """A staged save goes; what was moved aside goes if its place is taken."""
    make(tmp_path, "step_000002", "step_000002.old-1a2b", "step_000004.tmp-3c4d")
    assert ["step_000002.old-1a2b", "step_000004.tmp-3c4d"] == sweep(tmp_path)
    assert ["step_000002"] == names(tmp_path)


def test_what_was_moved_aside_goes_back(tmp_path: Path) -> None:
    """A save killed between its two renames had moved the older folder aside: it is the only one there is."""
    make(tmp_path, "step_000002.old-1a2b")
    assert [] == sweep(tmp_path)
    assert ["step_000002"] == names(tmp_path)
    assert "step_000002.old-1a2b" == (tmp_path / "step_000002" / "weights").read_text()


def test_others_files_stay(tmp_path: Path) -> None:
    """Hidden files, files without a step, links and plain files aren't saves in flight."""
    make(tmp_path, ".orz", ".tmp-1", "step_000002", "notes.tmp-1", "elsewhere")
    (tmp_path / ".orz-probe").write_text("a file")
    (tmp_path / "step_000006.tmp-1").write_text("a file")
    (tmp_path / "step_000008.tmp-1").symlink_to(tmp_path / "elsewhere")
    before = names(tmp_path)
    assert [] == sweep(tmp_path)
    assert before == names(tmp_path)


def test_a_run_without_checkpoints_has_nothing_to_sweep(tmp_path: Path) -> None:
    """Before the first save there is no folder."""
    assert [] == sweep(tmp_path / "checkpoints")
