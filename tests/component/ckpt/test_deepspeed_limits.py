"""Numbers in files of DeepSpeed that would take all memory if they were believed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from orz_ckpt.errors import FormatError
from orz_ckpt.readers.deepspeed import read
from orz_ckpt.readers.deepspeed.states import MAX_RANKS, read_model, read_optimizer

pytestmark = pytest.mark.component


def save_optimizer(folder: Path, partition_count: Any) -> Path:
    path = folder / "zero_pp_rank_0_mp_rank_00_optim_states.pt"
    state = {"zero_stage": 3, "partition_count": partition_count, "fp32_flat_groups": [torch.zeros(2)]}
    torch.save({"optimizer_state_dict": state, "ds_version": "0.19.8"}, path)
    return path


@pytest.mark.parametrize("count", [2**40, [2, 2**62], MAX_RANKS + 1, 0, -1, "many"])
def test_a_number_of_ranks_that_no_cluster_has_is_refused(tmp_path: Path, count: Any) -> None:
    """It is named, and no set of so many ranks is made."""
    with pytest.raises(FormatError, match="partition_count"):
        read_optimizer(save_optimizer(tmp_path, count), 0)


def test_the_largest_number_of_ranks_is_read(tmp_path: Path) -> None:
    """The limit itself is still believed."""
    assert (MAX_RANKS,) == read_optimizer(save_optimizer(tmp_path, MAX_RANKS), 0).partitions


def test_a_world_that_no_cluster_has_is_refused(tmp_path: Path) -> None:
    """The model file's own number has the same limit."""
    path = tmp_path / "zero_pp_rank_0_mp_rank_00_model_states.pt"
    torch.save({"module": {"w": torch.zeros(0)}, "dp_world_size": 2**40, "ds_version": "0.19.8"}, path)
    with pytest.raises(FormatError, match="dp_world_size"):
        read_model(path)


@pytest.mark.parametrize("stage", [2, 3])
def test_shapes_that_no_number_holds(tmp_path: Path, stage: int) -> None:
    """A weight of 2^1240 elements, which no float holds, is a finding; one of a thousand dimensions is refused."""
    shapes = [{"w": (2**62,) * 20}]
    sharded = stage == 3
    key = "fp32_flat_groups" if sharded else "single_partition_of_fp32_groups"
    state = {"zero_stage": stage, "partition_count": 1, key: [torch.zeros(2)]}
    model = {"module": {}, "param_shapes": shapes, "dp_world_size": 1, "ds_version": "0.19.8"}
    torch.save({"optimizer_state_dict": state}, tmp_path / "zero_pp_rank_0_mp_rank_00_optim_states.pt")
    file = tmp_path / f"{'zero_pp_rank_0_' if sharded else ''}mp_rank_00_model_states.pt"
    torch.save(model, file)
    source = read(tmp_path)
    assert ({}, ["elements_differ"]) == (source.tensors, [entry.code for entry in source.findings])

    torch.save({**model, "param_shapes": [{"w": (1,) * 1000}]}, file)
    with pytest.raises(FormatError, match="a shape of at most 64 dimensions"):
        read_model(file)
