"""A place for copies is tried before anything depends on it, and says which steps it holds."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from orz_ckpt.copy.place import steps_there, try_place
from orz_ckpt.copy.run import copy
from orz_ckpt.errors import CkptError
from orz_ckpt.remote import Remote, RemoteError
from orz_cli.errors import UsageError

pytestmark = pytest.mark.component


def test_a_good_place_is_left_as_it_was(tmp_path: Path, memory: fsspec.AbstractFileSystem) -> None:
    """A store and a folder that is not there yet; nothing of the trial stays."""
    memory.pipe("/bucket/run/mine", b"1")
    try_place("memory://bucket/run")
    assert {"/bucket/run/mine"} == set(memory.store)
    try_place(f"file://{tmp_path}/archive/run")
    assert [] == list((tmp_path / "archive" / "run").iterdir())


def test_a_bad_place(tmp_path: Path, memory: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unknown, read only, refusing, forgetful, or a file where the folder should be."""
    with pytest.raises(UsageError, match="not a kind of URL that is known here"):
        try_place("ftp://host/run")
    with pytest.raises(UsageError, match="http can be read, and not written"):
        try_place("http://host/run")
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(OSError, match=r"file"):
        try_place(f"file://{tmp_path}/file/run")
    with monkeypatch.context() as patch:
        patch.setattr(MemoryFileSystem, "_open", refusing)
        with pytest.raises(RemoteError, match="AccessDenied"):
            try_place("memory://bucket/run")
    monkeypatch.setattr(Remote, "text", lambda self, name, limit: b"else")
    with pytest.raises(CkptError, match=r"32 bytes were written, 4 other bytes came back"):
        try_place("memory://bucket/run")


def refusing(self: object, path: str, mode: str = "rb", **_: object) -> None:
    raise PermissionError(f"AccessDenied: {path} {mode}")


def test_only_whole_copies_count(run: Path, tmp_path: Path, memory: fsspec.AbstractFileSystem) -> None:
    """A step without its manifest is none; neither is another folder, nor a run that isn't there."""
    assert [] == steps_there("memory://bucket/run") == steps_there(f"file://{tmp_path}/none")
    copy(str(run), "memory://bucket/run")
    copy(str(run), f"file://{tmp_path}/archive")
    expected = steps_there(str(run))
    assert len(expected) > 1
    assert expected == steps_there("memory://bucket/run") == steps_there(f"file://{tmp_path}/archive")
    memory.rm_file(f"/bucket/run/checkpoints/step_{expected[-1]:06d}/manifest.json")
    memory.pipe("/bucket/run/checkpoints/other/manifest.json", b"{}")
    assert expected[:-1] == steps_there("memory://bucket/run")


def test_a_write_makes_no_bucket(memory: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an object store a folder is made by its files; `makedirs` there would make a bucket that was mistyped."""

    def never(self: object, path: str, exist_ok: bool) -> None:
        raise AssertionError(path)

    monkeypatch.setattr(MemoryFileSystem, "makedirs", never)
    Remote("memory://bucket/run", write=True).write("a/b", [b"1"])
    assert b"1" == memory.cat("/bucket/run/a/b")
