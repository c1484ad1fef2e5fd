"""DeepSpeed shards under another rank's name: they fit in number, size and step, and torch wrote their name inside."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest
import torch

from orz_ckpt.merge.run import merge
from orz_ckpt.readers.deepspeed import read
from orz_cli.findings import Severity

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from orz_ckpt.tensors.source import Source

pytestmark = pytest.mark.component

STEP = "global_step2"
OPTIM = "zero_pp_rank_{}_mp_rank_00_optim_states.pt"
MODEL = "zero_pp_rank_{}_mp_rank_00_model_states.pt"


def found_in(source: Source) -> list[tuple[str, str | None]]:
    return [(entry.code, entry.path) for entry in source.findings]


@pytest.mark.parametrize(
    ("case", "name"),
    [("zero3", f"bf16_{OPTIM}"), ("zero3", MODEL), ("zero2", f"bf16_{OPTIM}"), ("zero1", OPTIM)],
)
def test_a_copy_under_another_rank_is_found(
    case: str, name: str, broken: Callable[[str], Path], tmp_path: Path
) -> None:
    """Rank 0's file in the place of rank 1's is an error at that file alone, and nothing is merged from it."""
    path = broken(case)
    copy = path / STEP / name.format(1)
    shutil.copy(path / STEP / name.format(0), copy)
    source = read(path, tag=STEP)
    assert [("rank_differs", str(copy))] == found_in(source)
    (found,) = source.findings
    assert Severity.ERROR is found.severity
    assert f"it was saved as {name.format(0)}, and is named after another rank" == found.message
    done = merge(source, tmp_path / "out")
    assert (1, False) == (done.status().exit_code, done.written)


def test_two_files_that_were_swapped_are_found(broken: Callable[[str], Path]) -> None:
    """Two ranks' names exchanged: both are named; under their own names again, both are sound."""
    path = broken("zero3")
    first, second = (path / STEP / f"bf16_{OPTIM.format(rank)}" for rank in (0, 1))

    def swap() -> None:
        first.rename(path / "first")
        second.rename(first)
        (path / "first").rename(second)

    swap()
    assert [("rank_differs", str(first)), ("rank_differs", str(second))] == found_in(read(path, tag=STEP))
    swap()
    assert [] == found_in(read(path, tag=STEP))


def test_a_model_file_beside_a_universal_checkpoint(broken: Callable[[str], Path]) -> None:
    """The frozen weights of a universal checkpoint are in the model files of the ranks it was made of."""
    path = broken("zero3") / "universal"
    copy = path / MODEL.format(1)
    shutil.copy(path / MODEL.format(0), copy)
    assert [("rank_differs", str(copy))] == found_in(read(path))


@pytest.mark.parametrize("name", ["archive", "bf16_zero_pp_rank_1_mp_rank_00_optim_states_copy", "rank_0", "stream"])
def test_a_name_that_is_no_rank_of_deepspeed_says_nothing(
    name: str, broken: Callable[[str], Path], small: dict[str, Any], tensors: Any
) -> None:
    """A file that was saved under a name of its own, or to a stream, and then renamed is as sound as any other."""
    path = broken("zero3")
    file = path / STEP / f"bf16_{OPTIM.format(1)}"
    content = torch.load(file, weights_only=False)
    other = path / STEP / f"{name}.pt"
    if name == "stream":
        with other.open("wb") as stream:
            torch.save(content, stream)
    else:
        torch.save(content, other)
    other.rename(file)
    source = read(path, tag=STEP)
    assert [] == found_in(source)
    assert small["zero3"].engine("masters") == tensors(source)
