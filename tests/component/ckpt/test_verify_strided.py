"""Tensors of torch with gaps between their numbers, such as slices of columns: looked at through their strides."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
import torch
from torch.distributed.checkpoint.state_dict_saver import save as save_dcp

from orz_ckpt.checks.content import Job
from orz_ckpt.checks.sample import check_sample
from orz_ckpt.entries import entry_of
from orz_ckpt.findings import Level, Report
from orz_ckpt.formats.torch_contents import contents_of
from orz_ckpt.formats.torch_file import load
from orz_ckpt.manifest import CHUNK_BYTES
from orz_ckpt.tensors.source import Block
from orz_ckpt.verify import verify
from orz_ckpt.watch import Silent
from orz_cli.findings import Severity, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = [pytest.mark.component, pytest.mark.filterwarnings("ignore:torch.distributed is disabled")]

NAN = float("nan")


def codes(report: Report) -> set[str]:
    return {entry.code for entry in report.findings if entry.severity is not Severity.INFO}


def the(report: Report, code: str) -> Any:
    (found,) = (entry for entry in report.findings if entry.code == code)
    return found


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def verified(folder: Path, tensor: torch.Tensor, level: Level = Level.FULL) -> Report:
    torch.save({"w": tensor}, folder / "x.pt")
    return verify(folder / "x.pt", level=level)


@pytest.mark.parametrize("level", [Level.FULL, Level.DEEP])
def test_sound_slice(level: Level, tmp_path: Path) -> None:
    """A slice of columns passes, whatever lies in the gaps; it was searched, so nothing is said of it."""
    whole = torch.full((20, 30), NAN)
    whole[:, 5:9] = normal(20, 4)
    report = verified(tmp_path, whole[:, 5:9], level)

    assert (Status.OK, set()) == (report.status(), codes(report))
    assert "numbers_not_checked" not in {entry.code for entry in report.findings}


@pytest.mark.parametrize(
    ("view", "place", "count"),
    [
        ((slice(None), slice(2, 6)), [3, 1], 80),  # strides 7 and 1: 3 * 7 + 1 is no multiple of the 4 columns
        ((slice(None, None, 3), slice(None, None, 2)), [1, 2], 28),
    ],
)
def test_nan_in_a_slice(view: tuple[slice, slice], place: Sequence[int], count: int, tmp_path: Path) -> None:
    """The first NaN of a slice is named by its index in it, and by its byte in the file."""
    whole = normal(20, 7)
    whole[view][tuple(place)] = NAN
    whole[view][-1, -1] = NAN
    report = verified(tmp_path, whole[view])
    found = the(report, "not_finite")
    block = cast("dict[str, Any]", load(tmp_path / "x.pt").value)["w"]
    assert isinstance(block, Block)
    byte = block.offset + 4 * sum(index * stride for index, stride in zip(place, whole[view].stride(), strict=True))

    assert (Status.FAILED, "w") == (report.status(), found.tensor)
    assert f"'w': 2 of {count} numbers are NaN or Inf, first at {place}, byte {byte:,}" == found.message
    data = (tmp_path / "x.pt").read_bytes()[byte : byte + 4]
    assert torch.isnan(torch.frombuffer(bytearray(data), dtype=torch.float32)).all()


def test_large_slice(tmp_path: Path) -> None:
    """A NaN behind the first megabytes of a slice is found at its own place."""
    whole = normal(3000, 1000)
    whole[2999, 899] = NAN
    found = the(verified(tmp_path, whole[:, :900]), "not_finite")

    assert "1 of 2,700,000 numbers are NaN or Inf, first at [2999, 899]" in found.message


def test_slice_that_is_repeated(tmp_path: Path) -> None:
    """Of a slice that is expanded each number counts once."""
    row = normal(1, 9)
    row[0, 4] = NAN
    found = the(verified(tmp_path, row[:, ::2].expand(1000, 5)), "not_finite")

    assert "1 of 5 numbers are NaN or Inf, first at [0, 2]" in found.message


def test_slice_of_zeros_and_of_one_value(tmp_path: Path) -> None:
    """Zeros in a slice are zeros, and one value is one value, though other numbers lie in the gaps."""
    whole = normal(20, 30)
    whole[:, 5:9] = 0
    assert "all_zero_model" in codes(verified(tmp_path, whole[:, 5:9]))
    whole[:, 5:9] = 0.5

    assert "'w' (0.5)" in the(verified(tmp_path, whole[:, 5:9]), "constant").message


def test_outlier_in_a_slice(tmp_path: Path) -> None:
    """One number far away from the others of a slice is found at level deep; one in the gaps is none."""
    whole = normal(50, 30)
    whole[7, 20] = 1e6
    assert set() == codes(verified(tmp_path, whole[:, :9], Level.DEEP))
    whole[7, 3] = 1e6

    assert "'w': 1e+06 lies far away" in the(verified(tmp_path, whole[:, :9], Level.DEEP), "outlier").message


def test_slice_of_a_tensor_that_is_saved_too(tmp_path: Path) -> None:
    """A NaN in a tensor and in a slice of it is one finding."""
    whole = normal(20, 30)
    whole[3, 7] = NAN
    torch.save({"a": whole, "b": whole[:, 5:9]}, tmp_path / "x.pt")

    assert "first at [3, 7]" in the(verify(tmp_path / "x.pt"), "not_finite").message


def test_slice_in_a_distributed_checkpoint(tmp_path: Path) -> None:
    """A slice in a `.distcp` file is looked at, too, by the model's name of it."""
    whole = normal(20, 30)
    whole[3, 7] = NAN
    save_dcp({"w": whole[:, 5:9]}, checkpoint_id=tmp_path / "dcp", no_dist=True)
    report = verify(tmp_path / "dcp")

    assert ("w", True) == (the(report, "not_finite").tensor, "[3, 2]" in the(report, "not_finite").message)


def verified_sample(path: Path) -> Report:
    return verify(path, level=Level.SAMPLE, sample=1.0)


@pytest.mark.parametrize("zip_file", [True, False])
def test_sample_of_a_slice(zip_file: bool, tmp_path: Path) -> None:
    """Where all is read, a NaN in a slice is found; one in the gaps is none of its numbers."""
    whole = normal(20, 30)
    whole[:, 12:] = NAN
    path = tmp_path / "x.pt"
    torch.save({"w": whole[:, 5:9], "b": normal(4)}, path, _use_new_zipfile_serialization=zip_file)
    report = verified_sample(path)
    assert (Status.OK, set()) == (report.status(), codes(report))
    whole[3, 7] = NAN
    torch.save({"w": whole[:, 5:9], "b": normal(4)}, path, _use_new_zipfile_serialization=zip_file)
    report = verified_sample(path)

    assert (Status.FAILED, "w") == (report.status(), the(report, "not_finite").tensor)
    assert "numbers_not_checked" not in {entry.code for entry in report.findings}


def test_sample_of_a_slice_across_parts(tmp_path: Path) -> None:
    """A slice that no part has alone is not searched, and that is said."""
    path = tmp_path / "x.pt"
    torch.save({"w": normal(CHUNK_BYTES // 256 + 9, 64)[:, 5:9]}, path)
    contents = contents_of(load(path))
    job = Job(path=path, size=path.stat().st_size, entry=entry_of(path), header=None, torch=contents)
    found = list(check_sample(path, [job], 1.0, Silent()))

    (said,) = (entry for entry in found if entry.code == "numbers_not_checked")
    assert "1 tensor with gaps between the numbers, in no part alone, not searched for NaN: 'w'" == said.message


class Counting:
    """Progress that adds up what it is told."""

    total = 0
    done = 0

    def add_total(self, nbytes: int) -> None:
        self.total += nbytes

    def advance(self, nbytes: int) -> None:
        self.done += nbytes


@pytest.mark.parametrize("level", [Level.FULL, Level.SAMPLE])
def test_progress_counts_the_numbers_of_a_slice(level: Level, tmp_path: Path) -> None:
    """Its bytes, 4 of each number, come on top of those of the file, in what is expected and in what is done."""
    path = tmp_path / "x.pt"
    counts = []
    for columns in (30, 4):
        torch.save({"w": normal(20, 30)[:, :columns]}, path)
        progress = Counting()
        verify(path, level=level, sample=1.0, progress=progress)
        assert progress.total == progress.done
        counts.append(progress.done)
    if level is Level.FULL:
        assert path.stat().st_size + 4 * 20 * 4 == counts[1]
    assert 4 * 20 * 4 == counts[1] - counts[0]
