"""Tensors of torch with gaps between their numbers, such as slices of columns: looked at through their strides."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
import torch
from torch.distributed.checkpoint.state_dict_saver import save as save_dcp

from orz_ckpt.findings import Level, Report
from orz_ckpt.formats.torch_file import load
from orz_ckpt.tensors.source import Block
from orz_ckpt.verify import verify
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
