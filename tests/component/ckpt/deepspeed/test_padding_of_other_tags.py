"""Padding of ZeRO in shards that are no part of the checkpoint that is judged: of another tag, or one by itself."""

from __future__ import annotations

import shutil
import struct
from typing import TYPE_CHECKING

import pytest

from orz_ckpt.describing import describe_folder
from orz_ckpt.findings import Level, Report
from orz_ckpt.readers.deepspeed import read
from orz_ckpt.verify import verify
from orz_cli.findings import Severity, Status

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from orz_ckpt.tensors.source import Block

    Overwrite = Callable[[Path, int, bytes], None]

pytestmark = pytest.mark.component

STEP = "global_step2"
NANS = {"F32": struct.pack("<f", float("nan")), "BF16": b"\xc0\x7f"}


def errors(report: Report) -> list[tuple[str, str]]:
    return [(entry.code, entry.path) for entry in report.findings if entry.severity is Severity.ERROR]


def last_piece(tag: Path, name: str) -> Block:
    return read(tag).tensors[name].pieces[-1].block


def write_nan(overwrite: Overwrite, block: Block, behind: int) -> None:
    """Write NaN over the number that lies `behind` numbers behind a block's last one; at 1 its padding begins."""
    place = block.offset + block.nbytes + (behind - 1) * block.itemsize
    overwrite(block.path, place, NANS[block.dtype])


@pytest.fixture
def padded(broken: Callable[[str], Path], overwrite: Overwrite) -> Path:
    """A folder with a ZeRO-3 save, whose tag `latest` names, an older one, and a universal copy; NaN in all padding."""
    path = broken("zero3")
    assert STEP == (path / "latest").read_text(encoding="utf-8").strip()
    for tag in (path / STEP, path / "universal"):
        frozen = last_piece(tag, "norm.weight")
        assert 2 == frozen.numel  # of 5 elements 3 are rank 0's, 2 rank 1's, then comes one of padding
        write_nan(overwrite, frozen, 1)
    weight = last_piece(path / STEP, "first.weight")
    assert 17 == weight.numel  # of 35
    write_nan(overwrite, weight, 1)
    shutil.copytree(path / STEP, path / "global_step1")
    return path


def test_manifest_covers_all_tags(padded: Path, overwrite: Overwrite) -> None:
    """After `orz ckpt manifest` padding is as little judged as before it, of every tag; a NaN in a weight is found."""
    assert Status.OK is verify(padded).status()
    assert describe_folder(padded).manifest is not None
    for level in (Level.SAMPLE, Level.FULL, Level.DEEP):
        report = verify(padded, level=level, sample=1.0)
        assert (Status.OK, []) == (report.status(), errors(report)), level
    (padded / "manifest.json").unlink()

    old = padded / "global_step1"
    block = last_piece(old, "first.weight")
    write_nan(overwrite, block, 0)
    assert describe_folder(padded).manifest is not None  # the newest decides whether one is written
    assert [("not_finite", str(block.path))] == errors(verify(padded))


def test_one_shard(padded: Path, overwrite: Overwrite) -> None:
    """A shard that is looked at by itself has its padding left out, with a manifest and without; its weights not."""
    files = sorted(file for tag in (STEP, "global_step1", "universal") for file in (padded / tag).glob("*.pt"))
    assert 10 == len(files)
    for file in files:
        assert [] == errors(verify(file)), file
    assert describe_folder(padded).manifest is not None
    for file in files:
        assert [] == errors(verify(file)), file

    frozen = last_piece(padded / STEP, "norm.weight")
    write_nan(overwrite, frozen, 0)
    (padded / "manifest.json").unlink()
    found = verify(frozen.path)
    assert [("not_finite", str(frozen.path))] == errors(found)
    assert ["norm.weight"] == [entry.tensor.split()[-1] for entry in found.findings if entry.code == "not_finite"]


def test_shard_whose_tag_is_hostile(padded: Path) -> None:
    """Where another file of its tag may not be read, a shard is judged all the same, padding with it."""
    frozen = last_piece(padded / STEP, "norm.weight")
    other = padded / STEP / "zero_pp_rank_0_mp_rank_00_model_states.pt"
    other.write_bytes(b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.")

    assert {("not_finite", str(frozen.path))} == set(errors(verify(frozen.path)))
