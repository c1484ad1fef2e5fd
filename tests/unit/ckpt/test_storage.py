"""The two-stage commit: what it makes, what it refuses, and what it leaves behind when something fails."""

from __future__ import annotations

import errno
import os
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import pytest
from safetensors.numpy import save_file

from orz_ckpt import failing
from orz_ckpt.errors import CheckpointExistsError, CkptError, FormatError, StorageError, StorageFullError
from orz_ckpt.inventory import list_checkpoints, newest_committed, step_folder, step_of
from orz_ckpt.manifest import ManifestError, load
from orz_ckpt.steps import new_attempt
from orz_ckpt.storage import stage
from orz_cli.exits import ExitCode

if TYPE_CHECKING:
    from collections.abc import Callable

    from orz_ckpt.manifest import Manifest
    from orz_ckpt.storage import StagedCheckpoint

pytestmark = pytest.mark.unit

FSYNC = os.fsync
FLUSHES = 2 + 2 + 5 + 2  # files, manifests, folders, then the parent and the final folder


def fill(staged: StagedCheckpoint, content: bytes = b"x") -> None:
    (staged.path / "policy").mkdir()
    (staged.path / "policy" / "config.json").write_bytes(content)
    (staged.path / "state" / "rank_0").mkdir(parents=True)
    (staged.path / "state" / "rank_0" / "rng.bin").write_bytes(b"12345")


def commit(final: Path, content: bytes = b"x", **arguments: Any) -> Manifest:
    with stage(final, attempt="") as staged:
        fill(staged, content)
        return staged.commit(step=step_of(final) or 0, roles={"policy": "policy"}, writer="test 1", **arguments)


def commit_after(final: Path, write: Callable[[Path], object], **arguments: Any) -> Manifest:
    with stage(final) as staged:
        write(staged.path)
        return staged.commit(**{"step": 1, "roles": {}, "writer": "test 1", **arguments})


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_commit_makes_the_folder_and_its_manifest(tmp_path: Path) -> None:
    """After commit the final folder holds the files, a manifest that covers them, and a record of the node."""
    final = step_folder(tmp_path, 50)

    manifest = commit(final, config_sha256="a" * 64, meta={"seed": 1}, node="gpu 01")

    assert manifest == load(final / "manifest.json")
    assert {"policy/config.json": 1, "state/rank_0/rng.bin": 5} == {p: f.size for p, f in manifest.files.items()}
    assert (50, "a" * 64, {"seed": 1}) == (manifest.step, manifest.config_sha256, manifest.meta)
    assert manifest == load(final / ".orz" / "manifest-gpu_01.json")
    assert ["step_000050"] == [path.name for path in final.parent.iterdir()]
    assert {"manifest-gpu_01.json"} == {path.name for path in (final / ".orz").iterdir()}


def test_digests_of_files_and_tensors(tmp_path: Path) -> None:
    """Digests are blake3 of the bytes: known values for a file, and for a tensor those of its bytes alone."""
    final = step_folder(tmp_path, 1)
    with stage(final) as staged:
        (staged.path / "empty").write_bytes(b"")
        save_file({"a": np.zeros(0, "<f4"), "b": np.arange(4, dtype="<u1")}, staged.path / "w.safetensors")
        (staged.path / "b").write_bytes(bytes(range(4)))
        manifest = staged.commit(step=1, roles={}, writer="test 1")

    # blake3 of nothing, from the test vectors of its specification
    empty = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    tensors = manifest.files["w.safetensors"].tensors
    assert tensors is not None
    assert empty == manifest.files["empty"].digest
    assert empty == tensors["a"].digest
    assert manifest.files["b"].digest == tensors["b"].digest
    data = (final / "w.safetensors").read_bytes()
    assert bytes(range(4)) == data[tensors["b"].offset :][: tensors["b"].nbytes]


def test_same_content_again_keeps_the_first(tmp_path: Path) -> None:
    """A second save of the same bytes leaves the committed checkpoint alone and returns its manifest."""
    final = step_folder(tmp_path, 1)
    first = commit(final)
    before = tree(final)

    assert first == commit(final)
    assert before == tree(final)
    assert [final] == list(final.parent.iterdir())


def test_other_content_is_refused(tmp_path: Path) -> None:
    """A committed checkpoint is never replaced by other content."""
    final = step_folder(tmp_path, 1)
    commit(final)
    before = tree(final)
    with pytest.raises(CheckpointExistsError, match="holds a committed checkpoint of step 1 with other content"):
        commit(final, b"y")

    assert before == tree(final)
    assert [final] == list(final.parent.iterdir())


def test_same_content_over_a_damaged_one_is_refused(tmp_path: Path) -> None:
    """Equal digests in the manifest do not count when the files behind it have changed."""
    final = step_folder(tmp_path, 1)
    commit(final)
    (final / "policy" / "config.json").write_bytes(b"y")
    with pytest.raises(CheckpointExistsError, match="its files have changed since"):
        commit(final)
    (final / "policy" / "config.json").unlink()
    with pytest.raises(CheckpointExistsError, match="its files have changed since"):
        commit(final)

    assert [final] == list(final.parent.iterdir())


def test_unreadable_manifest_is_not_replaced(tmp_path: Path) -> None:
    """A folder whose manifest is torn may still be somebody's checkpoint."""
    final = step_folder(tmp_path, 1)
    commit(final)
    (final / "manifest.json").write_bytes(b"{")
    with pytest.raises(CheckpointExistsError, match="whose manifest cannot be read"):
        commit(final)

    assert b"x" == (final / "policy" / "config.json").read_bytes()


def test_leftover_of_a_crash_is_replaced(tmp_path: Path) -> None:
    """An uncommitted folder of the same step gives way, and nothing of it stays."""
    final = step_folder(tmp_path, 1)
    final.mkdir(parents=True)
    (final / "old.bin").write_bytes(b"old")
    commit(final)

    assert not (final / "old.bin").exists()
    assert newest_committed(tmp_path) == final
    assert [final] == list(final.parent.iterdir())


def test_file_in_the_place_is_refused(tmp_path: Path) -> None:
    """What is no folder is not replaced."""
    final = step_folder(tmp_path, 1)
    final.parent.mkdir()
    final.write_text("mine", encoding="utf-8")
    with pytest.raises(CheckpointExistsError, match="is not a folder"):
        commit(final)

    assert "mine" == final.read_text(encoding="utf-8")


def test_attempt_is_taken(tmp_path: Path) -> None:
    """Two saves never share a temporary folder; the first one's stays."""
    final = step_folder(tmp_path, 1)
    with stage(final, attempt="a") as staged:
        fill(staged)
        with pytest.raises(CheckpointExistsError, match="another save of attempt 'a'"), stage(final, attempt="a"):
            pass
        staged.commit(step=1, roles={}, writer="test 1")


@pytest.mark.parametrize("attempt", ["a/b", "..", "a b", "x" * 65, "é"])
def test_attempt_must_be_a_plain_word(tmp_path: Path, attempt: str) -> None:
    """An attempt id becomes part of a folder's name, so it is letters, digits, `_` and `-`."""
    with pytest.raises(ManifestError, match="attempt: expected"):
        stage(tmp_path / "step_000001", attempt=attempt)


def test_attempts_differ_and_sort() -> None:
    """Made-up ids are unique."""
    assert 100 == len({new_attempt() for _ in range(100)})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"step": -1}, "step: expected an integer"),
        ({"writer": ""}, "writer: expected a text"),
        ({"config_sha256": "abc"}, "config_sha256: expected 64"),
        ({"meta": {"loss": 0.5}}, r"meta\.loss: 0\.5 is a float; write it as text"),
        ({"roles": {"policy": "../policy"}}, "is not a plain relative path"),
        ({"roles": {"critic": "critic"}}, "there is no folder 'critic'"),
    ],
)
def test_wrong_argument(tmp_path: Path, arguments: dict[str, object], message: str) -> None:
    """A wrong argument is named, and nothing is left behind."""
    final = step_folder(tmp_path, 1)
    with pytest.raises(ManifestError, match=message):
        commit_after(final, lambda path: (path / "x").write_bytes(b"x"), **arguments)

    assert [] == list(final.parent.iterdir())


def test_leaving_without_commit(tmp_path: Path) -> None:
    """A block that forgets to commit is an error, not a silent loss."""
    final = step_folder(tmp_path, 1)
    with pytest.raises(CkptError, match="was staged but not committed"), stage(final) as staged:
        fill(staged)

    assert [] == list(final.parent.iterdir())


@pytest.mark.parametrize("error", [ValueError("bug"), KeyboardInterrupt(), FileNotFoundError(errno.ENOENT, "gone")])
def test_error_of_the_block_passes_unchanged(tmp_path: Path, error: BaseException) -> None:
    """What has nothing to do with the disk is not called a disk error; the folder is removed all the same."""
    final = step_folder(tmp_path, 1)

    def block() -> None:
        with stage(final) as staged:
            fill(staged)
            raise error

    with pytest.raises(type(error)) as caught:
        block()

    assert error is caught.value
    assert [] == list(final.parent.iterdir())


def test_broken_safetensors_is_not_committed(tmp_path: Path) -> None:
    """A file that no reader could load is refused at the save."""
    final = step_folder(tmp_path, 1)
    with pytest.raises(FormatError, match="not a sound safetensors file"):
        commit_after(final, lambda path: (path / "model.safetensors").write_bytes(b"12345678"))

    assert [] == list(final.parent.iterdir())


def test_link_is_not_committed(tmp_path: Path) -> None:
    """A link would not move with the checkpoint."""
    with pytest.raises(CkptError, match="is a link or a device"):
        commit_after(step_folder(tmp_path, 1), lambda path: (path / "model.bin").symlink_to("/etc/hostname"))


def test_manifest_of_the_writer_is_refused(tmp_path: Path) -> None:
    """A staged manifest.json would say that the folder is committed before it is."""
    with pytest.raises(CkptError, match="is there before the commit"):
        commit_after(step_folder(tmp_path, 1), lambda path: (path / "manifest.json").write_bytes(b"{}"))


def test_nothing_to_commit(tmp_path: Path) -> None:
    """A checkpoint without a file is none."""
    with pytest.raises(CkptError, match="holds no file"):
        commit_after(step_folder(tmp_path, 1), lambda path: (path / "policy").mkdir())


def raising(code: int, after: int) -> Callable[[int], None]:
    """Return an `os.fsync` that fails at its call number `after`."""
    calls = 0

    def fail(descriptor: int) -> None:
        nonlocal calls
        if calls == after:
            raise OSError(code, os.strerror(code))
        calls += 1
        FSYNC(descriptor)

    return fail


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_disk_fails_at_every_flush(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """Whichever flush fails, the older checkpoint and a crash's leftover are as they were, and the error says why."""
    older, final = step_folder(tmp_path, 1), step_folder(tmp_path, 2)
    commit(older)
    final.mkdir()
    (final / "leftover.bin").write_bytes(b"old")
    before = tree(tmp_path)
    for number in range(FLUSHES):
        monkeypatch.setattr(os, "fsync", raising(code, number))
        with pytest.raises(StorageError, match=os.strerror(code)) as caught:
            commit(final, b"new")

        assert (code != errno.EIO) == isinstance(caught.value, StorageFullError)
        assert isinstance(caught.value.__cause__, OSError)
        assert str(final) == caught.value.path
        assert before == tree(tmp_path)

    monkeypatch.setattr(os, "fsync", raising(code, FLUSHES))
    commit(final, b"new")
    assert final == newest_committed(tmp_path)


def test_full_disk_names_needed_and_free_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error carries what the checkpoint needs and what the disk has, and survives being sent to a process."""
    monkeypatch.setattr(failing, "free_bytes", lambda folder: 1234)
    monkeypatch.setattr(os, "fsync", raising(errno.ENOSPC, 0))
    with pytest.raises(StorageFullError, match="6 bytes had been written, 1,234 are free on ") as caught:
        commit(tmp_path / "step_000001")

    copy = pickle.loads(pickle.dumps(caught.value))  # noqa: S301  made one line above
    assert (6, 1234) == (caught.value.needed_bytes, caught.value.free_bytes)
    assert (6, 1234, str(caught.value)) == (copy.needed_bytes, copy.free_bytes, str(copy))
    assert isinstance(caught.value, OSError)
    assert ExitCode.FAILED == caught.value.exit_code


def test_expected_bytes_are_asked_for_first(tmp_path: Path) -> None:
    """Where the disk has less than what is coming, nothing is written."""
    final = step_folder(tmp_path, 1)
    with pytest.raises(StorageFullError, match="it needs 1,000,000,000,000,000,000 bytes"):
        stage(final, expected_bytes=10**18).__enter__()

    assert not final.parent.exists()


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("I/O error: No space left on device (os error 28)"),
        RuntimeError("Disk quota exceeded"),
        OSError(errno.EFBIG, "File too large"),
        PermissionError(errno.EACCES, "Permission denied"),
    ],
)
def test_writer_of_another_language(tmp_path: Path, error: Exception) -> None:
    """A full disk is recognised in the words that safetensors and others pass on."""
    final = step_folder(tmp_path, 1)

    def block() -> None:
        with stage(final) as staged:
            fill(staged)
            raise error

    with pytest.raises(StorageError, match="was not saved") as caught:
        block()

    assert error is caught.value.__cause__
    assert isinstance(error, PermissionError) != isinstance(caught.value, StorageFullError)
    assert [] == list(final.parent.iterdir())


def test_any_failure_on_a_full_disk_is_the_disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch says `unexpected pos` when the disk is full; the free space tells the truth."""
    monkeypatch.setattr(failing, "free_bytes", lambda folder: 4096)
    final = step_folder(tmp_path, 1)

    def block() -> NoReturn:
        with stage(final):
            raise RuntimeError("unexpected pos 128 vs 22")

    with pytest.raises(StorageFullError, match="unexpected pos"):
        block()


def test_folder_cannot_be_made(tmp_path: Path) -> None:
    """Where the parent is a file, the error says so before anything is computed."""
    (tmp_path / "checkpoints").write_text("", encoding="utf-8")
    with pytest.raises(CkptError, match="checkpoints"):
        stage(step_folder(tmp_path, 1)).__enter__()


def test_list_and_newest(tmp_path: Path) -> None:
    """Step folders are listed by number, committed or not; others, and folders in flight, are not."""
    for step in (9, 10, 1_000_000):
        commit(step_folder(tmp_path, step))
    (step_folder(tmp_path, 1_000_000) / "manifest.json").unlink()
    (step_folder(tmp_path, 11).with_name("step_000011.tmp-a")).mkdir()
    (step_folder(tmp_path, 12).with_name("notes")).mkdir()
    (step_folder(tmp_path, 13)).mkdir()
    (step_folder(tmp_path, 13) / "manifest.json").write_text("{", encoding="utf-8")

    listed = list_checkpoints(tmp_path)

    assert [(9, True), (10, True), (13, False), (1_000_000, False)] == [(c.step, c.committed) for c in listed]
    assert "not a whole JSON document" in listed[2].problem
    assert "uncommitted" in listed[3].problem
    assert step_folder(tmp_path, 10) == newest_committed(tmp_path)


def test_run_without_checkpoints(tmp_path: Path) -> None:
    """A run that has saved nothing has no checkpoint, and that is no error."""
    assert [] == list_checkpoints(tmp_path)
    assert None is newest_committed(tmp_path)
