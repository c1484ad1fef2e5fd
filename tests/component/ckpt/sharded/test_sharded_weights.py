"""What FSDP and DCP saved, merged: every byte as their own loaders give it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from orz_ckpt.merge.run import merge
from orz_ckpt.sources import detect, open_source
from orz_ckpt.tensors.coverage import check_coverage
from orz_cli.findings import Severity

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.component

Numbers = dict[str, tuple[str, tuple[int, ...], bytes]]
TIED = {"fsdp2", "hsdp"}
"""Where both names of the tied weight lie in the same bytes, so that one is written."""


def merged(path: Path, out: Path, read_stored: Callable[[Path], Numbers]) -> Numbers:
    """Merge a checkpoint, and return what was written under all names of it."""
    source = open_source(path)
    assert [] == check_coverage(source)
    assert [] == [entry for entry in source.findings if entry.severity is Severity.ERROR]
    done = merge(source, out)
    assert done.written, done.findings
    numbers = read_stored(out / "model.safetensors")
    return numbers | {alias: numbers[name] for alias, name in source.aliases.items()}


@pytest.mark.parametrize(
    ("case", "world_size"),
    [("fsdp2", 3), ("fsdp1", 3), ("fsdp1_mesh", 3), ("hsdp", 4), ("fsdp_tp", 4), ("two_dims", 4)],
)
def test_fsdp_merges_to_what_torch_gathers(
    case: str,
    world_size: int,
    saved: Callable[[str], Path],
    expected: Callable[[str], Numbers],
    read_stored: Callable[[Path], Numbers],
    tmp_path: Path,
) -> None:
    """Uneven, empty, replicated and twice-cut shards come out as `get_model_state_dict` gathers them, bit for bit."""
    path = saved(case)
    assert "fsdp" == detect(path)
    source = open_source(path)
    assert (7, world_size, "verl") == (source.step, source.world_size, source.writer)
    assert ({"head.weight": "embed.weight"} if case in TIED else {}) == source.aliases
    assert expected(case) == merged(path, tmp_path / "out", read_stored)


@pytest.mark.parametrize("case", ["dcp_nested", "dcp_flat", "dcp_single", "dcp_no_collectives", "hf_shards"])
def test_dcp_merges_to_what_torch_converts(
    case: str,
    saved: Callable[[str], Path],
    expected: Callable[[str], Numbers],
    read_stored: Callable[[Path], Numbers],
    tmp_path: Path,
) -> None:
    """The model's part of any DCP save comes out as `dcp_to_torch_save` has it, bit for bit, without the optimizer."""
    path = saved(case)
    assert "dcp" == detect(path)
    assert expected(case) == merged(path, tmp_path / "out", read_stored)


def test_consolidated_folder_is_a_hugging_face_folder(
    saved: Callable[[str], Path],
    expected: Callable[[str], Numbers],
    read_stored: Callable[[Path], Numbers],
    tmp_path: Path,
) -> None:
    """What torch's own writer puts together is read as such, and the shards that it leaves there merge to the same."""
    path = saved("hf_consolidated")
    assert ("hf", "dcp") == (detect(path), detect(path / "sharded"))
    assert expected("hf_consolidated") == merged(path, tmp_path / "whole", read_stored)
    assert expected("hf_consolidated") == merged(path / "sharded", tmp_path / "sharded", read_stored)


def test_step_folder_of_verl_leads_to_its_role(saved: Callable[[str], Path]) -> None:
    """`global_step_7` with one role is that role; its configuration is found in `huggingface/`."""
    source = open_source(saved("fsdp2").parent)
    assert saved("fsdp2") == source.path
    assert saved("fsdp2") / "huggingface" == source.model_folder
    assert "fsdp 3" == source.facts["mesh"]


def test_every_rank_is_in_the_files(saved: Callable[[str], Path]) -> None:
    """A source names each file that belongs to it, of weights or not."""
    source = open_source(saved("fsdp2"))
    kinds = ("extra_state", "model")
    names = [f"{kind}_world_size_3_rank_{rank}.pt" for kind in kinds for rank in range(3)]
    assert names == [file.name for file in source.files]
    assert 8 == len(open_source(saved("dcp_flat")).files) + 1  # 2 files a rank, and .metadata


def test_no_number_is_taken_twice(saved: Callable[[str], Path]) -> None:
    """Of an HSDP checkpoint the first replica is read, of replicated buffers the first rank."""
    source = open_source(saved("hsdp"))
    paths = {piece.block.path.name for tensor in source.tensors.values() for piece in tensor.pieces}
    assert {f"model_world_size_4_rank_{rank}.pt" for rank in (0, 1)} == paths
    (buffer,) = source.tensors["rope"].pieces
    assert "model_world_size_4_rank_0.pt" == buffer.block.path.name


@pytest.mark.full
@pytest.mark.parametrize(
    ("num_ranks", "cases"),
    [
        (1, ("fsdp2", "fsdp1", "dcp_nested", "dcp_no_collectives", "hf_shards")),
        (2, ("fsdp2", "fsdp1", "fsdp1_mesh", "dcp_nested", "dcp_flat", "hf_shards", "hsdp")),
        (5, ("fsdp2", "fsdp1_mesh", "dcp_nested", "dcp_no_collectives", "hf_shards")),
        (6, ("hsdp", "fsdp_tp", "two_dims")),
        (8, ("fsdp2", "hsdp", "two_dims", "dcp_flat")),
    ],
)
def test_any_number_of_ranks(
    num_ranks: int,
    cases: tuple[str, ...],
    on_ranks: Callable[[int, Sequence[str], Path], None],
    read_stored: Callable[[Path], Numbers],
    tmp_path: Path,
) -> None:
    """On 1, 2, 5, 6 and 8 ranks, with more ranks than rows, every case comes out as its framework loads it."""
    on_ranks(num_ranks, cases, tmp_path)
    for case in cases:
        roles = list((tmp_path / case).glob("global_step_*/actor"))
        path = roles[0] if roles else tmp_path / case
        numbers = merged(path, tmp_path / "out" / case, read_stored)
        assert read_stored(tmp_path / f"{case}.safetensors") == numbers, case
