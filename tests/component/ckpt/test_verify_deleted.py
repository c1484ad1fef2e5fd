"""Files that were deleted on the machine that saved them: no other node is blamed."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from orz_ckpt.manifest import dumps, load
from orz_ckpt.verify import verify

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.component

SHARD = "policy/model-00001-of-00002.safetensors"


@pytest.mark.parametrize(("host", "here"), [("gpu-01", True), ("gpu-02", False)])
def test_a_file_deleted_where_it_was_saved(
    step: Path, monkeypatch: pytest.MonkeyPatch, host: str, *, here: bool
) -> None:
    """Of a file that this very machine saved no other node is blamed, with the manifest and without."""
    manifest = load(step / "manifest.json")
    manifest = replace(manifest, meta={"nodes": {"gpu-01": [SHARD]}, "path": str(step)})
    (step / "manifest.json").write_text(dumps(manifest))
    shutil.rmtree(step / ".orz")
    (step / ".orz").mkdir()
    (step / ".orz" / "manifest-gpu-01.json").write_text(dumps(replace(manifest, files={SHARD: manifest.files[SHARD]})))
    (step / SHARD).unlink()
    monkeypatch.setattr("orz_ckpt.records.platform.node", lambda: host)

    (found,) = verify(step).findings
    assert here == ("'gpu-01', this machine" in found.message)
    assert here == ("locate" not in found.remedy)
    (step / "manifest.json").unlink()
    (found,) = (entry for entry in verify(step).findings if SHARD in entry.message)
    assert ("file_missing" if here else "weights_elsewhere") == found.code
    assert here == ("was saved by node gpu-01" in found.message) == ("deleted since" in found.message)
    assert here == ("locate" not in found.remedy)


def test_a_file_deleted_from_the_one_folder_of_its_save(step: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A save to one folder had all its files in it: whatever machine looks, what is missing was there."""
    monkeypatch.setattr("orz_ckpt.records.platform.node", lambda: "another")
    for name in (SHARD, "manifest.json"):
        (step / name).unlink()

    (lost,) = (entry for entry in verify(step).findings if entry.path == str(step))
    assert "file_missing" == lost.code
    assert lost.message.startswith("1 file of 9, ")
