"""What a killed save left in flight is swept away, and nothing else below the folder of checkpoints."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orz_ckpt.disk.folder import remove
from orz_ckpt.node.saving import Removed, begin, discard, discarded, empty_trash, sweep

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
    assert Removed(["step_000002.old-1a2b", "step_000004.tmp-3c4d"]) == sweep(tmp_path)
    assert ["step_000002"] == names(tmp_path)


def test_what_was_moved_aside_goes_back(tmp_path: Path) -> None:
    """A save killed between its two renames had moved the older folder aside: it is the only one there is."""
    make(tmp_path, "step_000002.old-1a2b")
    assert Removed([]) == sweep(tmp_path)
    assert ["step_000002"] == names(tmp_path)
    assert "step_000002.old-1a2b" == (tmp_path / "step_000002" / "weights").read_text()


def test_others_files_stay(tmp_path: Path) -> None:
    """Hidden files, files without a step, links and plain files aren't saves in flight."""
    make(tmp_path, ".orz", ".tmp-1", "step_000002", "notes.tmp-1", "elsewhere")
    (tmp_path / ".orz-probe").write_text("a file")
    (tmp_path / "step_000006.tmp-1").write_text("a file")
    (tmp_path / "step_000008.tmp-1").symlink_to(tmp_path / "elsewhere")
    before = names(tmp_path)
    assert Removed([]) == sweep(tmp_path)
    assert before == names(tmp_path)


def test_a_run_without_checkpoints_has_nothing_to_sweep(tmp_path: Path) -> None:
    """Before the first save there is no folder."""
    assert Removed([]) == sweep(tmp_path / "checkpoints")


def test_what_is_discarded_is_no_step_at_once_and_is_deleted_then(tmp_path: Path) -> None:
    """A step folder under another name, which is found again; not where its step was saved again meanwhile."""
    make(tmp_path, "step_000001", "step_000002", "step_000003")
    assert "" == discard(tmp_path / "step_000001")
    assert "" == discard(tmp_path / "step_000002")
    assert "" == discard(tmp_path / "step_000009"), "it isn't here"
    hidden = [name for name in names(tmp_path) if name.startswith(".trash-step_00000")]
    assert [*hidden, "step_000003"] == names(tmp_path)
    assert ["step_000001", "step_000002"] == discarded(tmp_path)
    make(tmp_path, "step_000002")
    assert ["step_000001"] == discarded(tmp_path)
    assert Removed([]) == sweep(tmp_path)
    assert Removed(hidden) == empty_trash(tmp_path)
    assert ["step_000002", "step_000003"] == names(tmp_path)


def test_what_cannot_be_deleted_is_named_and_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a save in flight, and of a step that was discarded; both go once the disk lets them."""
    make(tmp_path, "step_000001", "step_000002.tmp-1a2b")
    unlink = os.unlink

    def refuse(path: str, **where: int) -> None:
        raise PermissionError(1, "Operation not permitted", path)

    monkeypatch.setattr(os, "unlink", refuse)
    assert "" == discard(tmp_path / "step_000001")
    (hidden,) = (name for name in names(tmp_path) if name.startswith(".trash-"))
    assert Removed([], {"step_000002.tmp-1a2b": "weights: Operation not permitted"}) == sweep(tmp_path)
    assert Removed([], {hidden: "weights: Operation not permitted"}) == empty_trash(tmp_path)
    assert [hidden, "step_000002.tmp-1a2b"] == names(tmp_path)
    monkeypatch.setattr(os, "unlink", unlink)
    assert Removed(["step_000002.tmp-1a2b"]) == sweep(tmp_path)
    assert Removed([hidden]) == empty_trash(tmp_path)
    assert [] == names(tmp_path)


def test_a_step_that_cannot_be_discarded_stays_whole(tmp_path: Path) -> None:
    """A link in its place is no step of this run; why is said, and what it leads to is untouched."""
    make(tmp_path, "elsewhere")
    (tmp_path / "step_000001").symlink_to(tmp_path / "elsewhere")
    assert "it became a link" == discard(tmp_path / "step_000001")
    assert Removed([]) == empty_trash(tmp_path)
    assert ["elsewhere", "step_000001"] == names(tmp_path)


def test_removing_goes_on_while_a_late_writer_adds_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder isn't empty when its own turn comes; it is gone through again, and nothing is left."""
    staged = tmp_path / "step_000001.tmp-x"
    (staged / "state").mkdir(parents=True)
    (staged / "state" / "rank-0.pt").touch()
    remove_folder, left = os.rmdir, 2

    def rmdir(path: str, **where: int) -> None:
        nonlocal left
        if left:
            left -= 1
            (staged / "state" / f"late-{left}.pt").touch()
        remove_folder(path, **where)

    monkeypatch.setattr(os, "rmdir", rmdir)
    remove(staged)
    assert [] == list(tmp_path.iterdir())
    assert 0 == left


def test_a_folder_that_another_node_removes_too_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A file is gone when its turn comes; the rest goes, and nothing is said."""
    for name in ("a", "b", "c"):
        (tmp_path / "step" / name).mkdir(parents=True)
        (tmp_path / "step" / name / "file").touch()
    unlink, left = os.unlink, 1

    def gone_already(path: str, **where: int) -> None:
        nonlocal left
        unlink(path, **where)
        if left:
            left -= 1
            raise FileNotFoundError(path)

    monkeypatch.setattr(os, "unlink", gone_already)
    remove(tmp_path / "step")
    assert [] == list(tmp_path.iterdir())
    assert [] == caplog.records


def test_a_save_begins_where_nothing_is_and_where_the_folder_is(tmp_path: Path) -> None:
    """On a node's own disk, and on one that the coordinator's node shares; a disk that refuses is named."""
    staged = tmp_path / "checkpoints" / "step_000001.tmp-x"
    for _ in range(2):
        begin(staged, ["policy", "state"])
        assert ["policy", "state"] == sorted(path.name for path in staged.iterdir())
        (staged / "policy" / "file").touch()
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        begin(tmp_path / "file" / "step", ["policy"])
