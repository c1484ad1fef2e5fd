"""Numbers in files of DeepSpeed that would take all memory if they were believed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from orz_ckpt.errors import FormatError
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
