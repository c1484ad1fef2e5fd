"""`verify` of runs with many steps: what it asks about files grows as their number does, not as its square."""

from __future__ import annotations

from collections import Counter
from pathlib import PurePath
from typing import TYPE_CHECKING

import numpy as np
import pytest
from safetensors.numpy import save_file

from orz_ckpt.findings import Level
from orz_ckpt.verify import verify
from orz_cli.findings import Status
from orz_cli.main import main

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.component

FEW = 16
FILES = 6
"""Of each step, beside its weights."""


def run_of(path: Path, steps: int) -> Path:
    """Write a run under one manifest; the weights of each step differ."""
    for step in range(1, steps + 1):
        folder = path / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}", encoding="utf-8")
        save_file({"weight": np.arange(step, step + 4, dtype=np.float32).reshape(2, 2)}, folder / "model.safetensors")
        for number in range(FILES):
            (folder / f"rng_{number}.txt").write_text("x", encoding="utf-8")
    assert 0 == main(["ckpt", "manifest", str(path)])
    return path


def comparisons(path: Path, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Return how often `verify` compares paths with one another, by how."""
    count, equal, below = Counter[str](), PurePath.__eq__, PurePath.is_relative_to

    def counted_equal(self: PurePath, other: object) -> bool:
        count["equal"] += 1
        return equal(self, other)

    def counted_below(self: PurePath, *other: PurePath) -> bool:
        count["below"] += 1
        return below(self, *other)

    with monkeypatch.context() as patched:
        patched.setattr(PurePath, "__eq__", counted_equal)
        patched.setattr(PurePath, "is_relative_to", counted_below)
        report = verify(path, level=Level.QUICK)
    assert Status.OK is report.status()
    return count


def test_twice_the_steps_under_a_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice the steps take twice the comparisons of paths; to look through all files for each step takes four times."""
    few = comparisons(run_of(tmp_path / "few", FEW), monkeypatch)
    many = comparisons(run_of(tmp_path / "many", 2 * FEW), monkeypatch)
    for how in ("equal", "below"):
        assert 0 < many[how] < 2.5 * few[how], (how, few, many)
