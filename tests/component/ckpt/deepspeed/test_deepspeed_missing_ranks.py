"""DeepSpeed checkpoints of which ranks lie elsewhere: who is missing is named, and what the others hold is right."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest

from orz_ckpt.readers.deepspeed import read
from orz_cli.findings import Severity

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from orz_ckpt.findings import CkptFinding
    from orz_ckpt.tensors.source import Source

pytestmark = pytest.mark.component

Tensors = dict[str, tuple[str, tuple[int, ...], bytes]]
STEP = "global_step2"
OPTIM = "zero_pp_rank_{}_mp_rank_00_optim_states.pt"
BUFFERS = {"seen", "mask", "norm.shift"}
FROZEN = {"norm.weight", "norm.bias", "second.weight"}


def only(source: Source) -> CkptFinding:
    (found,) = source.findings
    return found


def codes(source: Source) -> list[str]:
    return [entry.code for entry in source.findings]


def subset(found: Mapping[str, object], expected: Mapping[str, object]) -> bool:
    return all(expected[name] == value for name, value in found.items())


def test_a_missing_rank_is_named_and_what_the_others_hold_is_right(
    small: dict[str, Any], broken: Callable[[str], Path], tensors: Callable[[Source], Tensors]
) -> None:
    """Without rank 1 of 2, the finding says so; the weights that rank 0 holds whole come, and no others."""
    path = broken("zero2")
    (path / STEP / f"bf16_{OPTIM.format(1)}").unlink()
    source = read(path, tag=STEP)
    assert "ranks_missing" == only(source).code
    expected = "1 of 2 shards *zero_pp_rank_*_optim_states.pt are here (rank 0); missing: rank 1"
    assert expected == only(source).message
    assert "orz ckpt locate" in only(source).remedy
    assert {"scale", *BUFFERS, *FROZEN} == source.tensors.keys()
    assert subset(tensors(source), small["zero2"].engine("masters"))


def test_missing_optimizer_shards_only_warn_where_the_module_is_asked_for(
    small: dict[str, Any], broken: Callable[[str], Path], tensors: Callable[[Source], Tensors]
) -> None:
    """The 16-bit weights of ZeRO-2 lie in one file; they need no optimizer."""
    path = broken("zero2")
    for rank in (0, 1):
        (path / STEP / f"bf16_{OPTIM.format(rank)}").unlink()
    source = read(path, tag=STEP, prefer="module")
    assert ("optimizer_missing", Severity.WARN) == (only(source).code, only(source).severity)
    assert small["zero2"].engine("weights") == tensors(source)


def test_a_model_file_alone_gives_its_weights_with_an_error(
    small: dict[str, Any], broken: Callable[[str], Path], tensors: Callable[[Source], Tensors]
) -> None:
    """One file of ZeRO-1 has all 16-bit weights; that the fp32 ones are not here is an error, with where to look."""
    path = broken("zero1-bf16")
    for rank in (0, 1):
        (path / STEP / f"bf16_{OPTIM.format(rank)}").unlink()
    source = read(path)
    assert "ranks_missing" == only(source).code
    assert "0 of 2 shards *zero_pp_rank_*_optim_states.pt are here; missing: ranks 0-1" == only(source).message
    assert small["zero1-bf16"].engine("weights") == tensors(source)


@pytest.mark.parametrize("name", ["zero2", "zero3", "zero1-bf16"])
def test_optimizer_files_alone_have_no_names(name: str, broken: Callable[[str], Path]) -> None:
    """The optimizer's shards hold numbers without names, and the finding says which file has them."""
    path = broken(name)
    for file in (path / STEP).glob("*model_states.pt"):
        file.unlink()
    source = read(path, tag=STEP)
    assert {} == source.tensors
    assert "model_states_missing" in codes(source)
    assert source.format == f"deepspeed-zero{name[4]}"


@pytest.mark.parametrize("node", [0, 1])
def test_a_nodes_own_disk_names_the_ranks_that_are_elsewhere(node: int, small: dict[str, Any]) -> None:
    """ZeRO-3 on disks that are not shared: each holds half, and says which; only rank 0 wrote `latest`."""
    source = read(small["zero3-nodes"].folder / f"node-{node}")
    missing = [entry.message for entry in source.findings if entry.code == "ranks_missing"]
    assert [
        f"1 of 2 shards *zero_pp_rank_*_optim_states.pt are here (rank {node}); missing: rank {1 - node}",
        f"1 of 2 shards zero_pp_rank_*_model_states.pt are here (rank {node}); missing: rank {1 - node}",
    ] == missing
    assert (["latest_missing"] if node else []) == [code for code in codes(source) if code != "ranks_missing"]
    assert {*BUFFERS, *(["scale"] if node == 0 else [])} == source.tensors.keys()  # its one element is rank 0's


def test_disks_brought_together_are_whole(
    small: dict[str, Any], tmp_path: Path, tensors: Callable[[Source], Tensors]
) -> None:
    """The folders of both nodes, laid over each other, are the checkpoint, ties included."""
    for node in (1, 0):
        shutil.copytree(small["zero3-nodes"].folder / f"node-{node}", tmp_path / "all", dirs_exist_ok=True)
    source = read(tmp_path / "all")
    assert () == source.findings
    assert small["zero3-nodes"].engine("masters") == tensors(source)
