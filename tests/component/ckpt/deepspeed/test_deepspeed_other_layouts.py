"""Layouts of DeepSpeed that are not put together here: experts, pipelines and slices are named and refused."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest

from orz_ckpt.readers.deepspeed import read

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from orz_ckpt.findings import CkptFinding
    from orz_ckpt.tensors.source import Source

pytestmark = pytest.mark.component

Tensors = dict[str, tuple[str, tuple[int, ...], bytes]]
STEP = "global_step2"


def only(source: Source) -> CkptFinding:
    (found,) = source.findings
    return found


@pytest.mark.parametrize(
    ("name", "said", "instead"),
    [
        ("experts", "a mixture of experts", "gather its weights"),
        ("experts0", "a mixture of experts", "gather its weights"),
        ("pipeline", "the layers of a pipeline", "ds_to_universal"),
    ],
)
def test_other_layouts_are_named_and_refused(
    name: str, said: str, instead: str, small: dict[str, Any], tmp_path: Path
) -> None:
    """What is not put together here is never put together wrongly: not from all files, not from some of one rank."""
    (tag,) = (entry for entry in small[name].checkpoint.iterdir() if entry.name.startswith("global_step"))
    found = only(read(tag))
    assert "layout_unsupported" == found.code
    assert said in found.message
    assert instead in found.remedy
    for pattern in ("mp_rank_00*", "*zero_pp_rank_0_mp_rank_00*"):
        for file in tag.glob(pattern):
            shutil.copy(file, tmp_path / file.name)
    source = read(tmp_path)
    assert ({}, "layout_unsupported") == (source.tensors, only(source).code)


def test_a_converted_pipeline_is_read(small: dict[str, Any], tensors: Callable[[Source], Tensors]) -> None:
    """The remedy for pipelines works: what `ds_to_universal` made of one has the layers of both of its stages."""
    source = read(small["pipeline"].checkpoint, tag="universal")
    assert () == source.findings
    live = small["pipeline"].engine("weights-0") | small["pipeline"].engine("weights-1")
    assert live.keys() == source.tensors.keys()
    assert {name: numbers[1] for name, numbers in live.items()} == {
        name: numbers[1] for name, numbers in tensors(source).items()
    }


@pytest.mark.parametrize("name", ["mp_rank_01_model_states.pt", "zero_pp_rank_0_mp_rank_03_optim_states.pt"])
def test_files_of_another_tensor_rank_are_enough_to_refuse(name: str, broken: Callable[[str], Path]) -> None:
    """Whatever the files say, a name with another mp_rank means that each tensor is a slice."""
    path = broken("zero2")
    shutil.copy(path / STEP / "mp_rank_00_model_states.pt", path / STEP / name)
    source = read(path, tag=STEP)
    assert ({}, "layout_unsupported") == (source.tensors, only(source).code)
    assert "ranks of tensor parallelism" in only(source).message
