"""A merge that was cut off goes on: what is finished is kept, and what cannot be trusted is written again."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from orz_ckpt.errors import CkptError
from orz_ckpt.manifest import MANIFEST_NAME, load
from orz_ckpt.merge import run as merge_run
from orz_ckpt.merge.journal import Journal
from orz_ckpt.merge.run import Options, merge
from orz_ckpt.sources import open_source
from orz_ckpt.verify import verify
from orz_cli.findings import Status

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.component


def test_goes_on_file_by_file(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an error in the third file the first two are kept; the next run writes the rest and the same bytes."""
    options = Options(max_shard_bytes=4000, jobs=1)
    merge(open_source(model), tmp_path / "expected", options)
    written: list[str] = []
    add = Journal.add

    def fail(journal: Journal, copied: Any) -> None:
        if len(written) == 2:
            raise OSError(5, "Input/output error")
        written.append(copied.file.name)
        add(journal, copied)

    monkeypatch.setattr(Journal, "add", fail)
    with pytest.raises(CkptError, match=r"Input/output error.*what is finished stays in"):
        merge(open_source(model), tmp_path / "out", options)
    assert not (tmp_path / "out").exists()
    assert {*written, ".orz"} == {entry.name for entry in (tmp_path / "out.tmp-merge").iterdir()}

    (cut_off,) = verify(tmp_path / "out.tmp-merge").findings
    assert ("uncommitted", True) == (cut_off.code, "a merge is writing this folder, or was cut off" in cut_off.message)
    assert cut_off.remedy.startswith("run the same `orz ckpt merge` again")

    monkeypatch.undo()
    inodes = {name: (tmp_path / "out.tmp-merge" / name).stat().st_ino for name in written}
    merged = merge(open_source(model), tmp_path / "out", options)
    assert 2 == merged.kept
    assert inodes == {name: (tmp_path / "out" / name).stat().st_ino for name in written}
    expected = load(tmp_path / "expected" / MANIFEST_NAME)
    assert expected.root_sha256 == load(tmp_path / "out" / MANIFEST_NAME).root_sha256
    assert not (tmp_path / "out.tmp-merge").exists()


def cut_off(model: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> Options:
    """Merge until all weights are written, and stop there; return what the next merge is to be asked for."""
    options = Options(max_shard_bytes=4000, jobs=1)
    monkeypatch.setattr(merge_run, "write_beside", lambda *_: (_ for _ in ()).throw(OSError(5, "stop")))
    with pytest.raises(CkptError, match="stop"):
        merge(open_source(model), out, options)
    monkeypatch.undo()
    return options


@pytest.mark.parametrize("damage", ["torn line", "short file", "other merge", "no journal line"])
def test_what_cannot_be_trusted_is_written_again(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    """A torn journal, a short file, or the files of another merge are never kept."""
    options = cut_off(model, tmp_path / "out", monkeypatch)
    folder = tmp_path / "out.tmp-merge"
    journal = folder / ".orz" / "merge.jsonl"
    finished = len(journal.read_bytes().splitlines()) - 1
    if damage == "torn line":
        os.truncate(journal, journal.stat().st_size - 10)
        finished -= 1
    elif damage == "short file":
        os.truncate(next(folder.glob("model-00001-of-*")), 100)
        finished -= 1
    elif damage == "other merge":
        options = replace(options, dtype="F16")
        finished = 0
    else:
        journal.write_bytes(b"")
        finished = 0
    merged = merge(open_source(model), tmp_path / "out", options)

    assert finished == merged.kept
    assert Status.OK is verify(tmp_path / "out").status()


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [((0.0, 1.0), set()), ((1.0, 0.0), set()), ((0.0, 0.0), {"all_zero_model"}), ((1e6, 1.0), {"number_overflows"})],
)
def test_numbers_of_finished_files_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, numbers: tuple[float, float], expected: set[str]
) -> None:
    """What an earlier run has written is looked at, too: zeros, and what the type has no room for."""
    arrays = {name: np.full((30, 30), number, np.float32) for name, number in zip("ab", numbers, strict=True)}
    save_file(arrays, tmp_path / "model.safetensors")
    options = Options(max_shard_bytes=2000, jobs=1, dtype="F16")
    add = Journal.add

    def fail_then(journal: Journal, copied: Any) -> None:
        if journal.finished:
            raise OSError(5, "Input/output error")
        add(journal, copied)

    monkeypatch.setattr(Journal, "add", fail_then)
    with pytest.raises(CkptError, match="Input/output error"):
        merge(open_source(tmp_path / "model.safetensors"), tmp_path / "out", options)
    monkeypatch.undo()
    merged = merge(open_source(tmp_path / "model.safetensors"), tmp_path / "out", options)

    assert expected == {entry.code for entry in merged.findings} & {"all_zero_model", "number_overflows", "not_finite"}
    assert merged.written == ("number_overflows" not in expected)


@pytest.mark.parametrize("place", [10, -10])
def test_a_finished_file_that_changed_is_written_again(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    """A byte that flipped in header or weights since the journal was written is told by its digest."""
    options = cut_off(model, tmp_path / "out", monkeypatch)
    first, *others = sorted((tmp_path / "out.tmp-merge").glob("*.safetensors"))
    data = bytearray(first.read_bytes())
    data[place] ^= 0x7F
    first.write_bytes(data)
    merged = merge(open_source(model), tmp_path / "out", options)

    assert len(others) == merged.kept
    assert Status.OK is verify(tmp_path / "out").status()
