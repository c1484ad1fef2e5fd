"""`orz ckpt copy`: where copies may go, and where one would do harm."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from orz_ckpt.copy.run import copy
from orz_ckpt.inventory import step_folder
from orz_cli.errors import UsageError
from orz_cli.findings import Status

pytestmark = [pytest.mark.component, pytest.mark.usefixtures("memory")]


def names(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


@pytest.mark.parametrize("source", ["run", "run/checkpoints", "run/checkpoints/step_000030"])
@pytest.mark.parametrize("store", [False, True], ids=["a disk", "a store"])
def test_a_checkpoint_takes_no_others_in(
    run: Path, tmp_path: Path, memory: fsspec.AbstractFileSystem, source: str, *, store: bool
) -> None:
    """With files in it that it does not name it would not verify: nothing is written to it, nor to a folder in it."""
    there = "memory://bucket/there" if store else str(tmp_path / "there")
    assert Status.OK == copy(str(step_folder(run, 10)), there).status()
    before = set(memory.store) if store else names(tmp_path)
    for dest in (f"{there}/policy/x", *([] if "step" in source else [there])):
        with pytest.raises(UsageError, match=f"would lie inside the checkpoint {there}, which would no longer verify"):
            copy(str(tmp_path / source), dest)
    assert before == (set(memory.store) if store else names(tmp_path))


def test_a_store_that_may_not_be_read_around_the_place(
    run: Path, monkeypatch: pytest.MonkeyPatch, memory: fsspec.AbstractFileSystem
) -> None:
    """Whoever may write to a folder of a bucket and read no other copies all the same."""
    real = memory.__class__.open

    def refusing(self, path: str, *words: object, **named: object):
        if not path.startswith("/bucket/mine/"):
            raise PermissionError(f"403: {path}")
        return real(self, path, *words, **named)

    monkeypatch.setattr(memory.__class__, "open", refusing)
    assert Status.OK == copy(str(run), "memory://bucket/mine/run").status()
