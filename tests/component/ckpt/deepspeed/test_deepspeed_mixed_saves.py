"""DeepSpeed checkpoints that several saves wrote: their shards are told apart, by steps or by numbers."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from orz_ckpt.merge.run import merge
from orz_ckpt.readers.deepspeed import masters_differ, read
from orz_ckpt.readers.deepspeed.loading import load as load_shards
from orz_ckpt.readers.deepspeed.names import shards
from orz_cli.findings import Severity

if TYPE_CHECKING:
    from collections.abc import Callable

    from orz_ckpt.findings import CkptFinding
    from orz_ckpt.tensors.source import Source

pytestmark = pytest.mark.component

STEP = "global_step2"
OPTIM = "zero_pp_rank_{}_mp_rank_00_optim_states.pt"


def only(source: Source) -> CkptFinding:
    (found,) = source.findings
    return found


def codes(source: Source) -> list[str]:
    return [entry.code for entry in source.findings]


def test_shards_of_different_steps_are_found_where_the_tool_merges_them(small: dict[str, Any]) -> None:
    """A save that was cut off over an older one: `zero_to_fp32` says nothing, this names ranks and steps."""
    case = small["zero2"]
    assert (case.folder / "tool_mixed.safetensors").exists()
    source = read(case.checkpoint, tag="mixed")
    assert "steps_mixed" == only(source).code
    assert "the optimizers' counts of steps differ (rank 1: step 2; rank 0: step 3)" == only(source).message
    assert str(case.checkpoint / "mixed" / f"bf16_{OPTIM.format(1)}") == only(source).path


@pytest.mark.parametrize("prefer", ["master", "module"])
def test_a_model_file_of_another_step_is_found_by_its_numbers(
    prefer: Any, broken: Callable[[str], Path], tmp_path: Path
) -> None:
    """All optimizers are of one step and the module of another: only the rounded masters tell, before any merge."""
    path = broken("zero2")
    shutil.copy(path / "global_step3" / "mp_rank_00_model_states.pt", path / STEP)
    source = read(path, tag=STEP, prefer=prefer)
    assert ("master_differs", Severity.ERROR, "scale") == (
        only(source).code,
        only(source).severity,
        only(source).tensor,
    )
    assert only(source).message.startswith("4 of 4 weights are not what rounding their fp32 copies gives")
    assert only(source).message.endswith("the module's file is of step 3, the optimizers took 2")
    done = merge(source, tmp_path / "out")
    assert (1, False) == (done.status().exit_code, done.written)
    findings, compared = masters_differ(path, tag=STEP)
    assert {"scale", "embed.weight", "first.weight", "first.bias"} == {entry.tensor for entry in findings}
    assert (4, {"master_differs"}) == (compared, {entry.code for entry in findings})


@pytest.mark.parametrize("rank", [0, 1])
def test_an_optimizer_file_of_another_step_is_found_without_steps(rank: int, broken: Callable[[str], Path]) -> None:
    """Optimizers that count no steps, as SGD's: the numbers of either rank tell that it is of another save."""
    path = broken("zero2")
    for file in (path / STEP).glob("*optim_states.pt"):
        other = f"_rank_{rank}_" in file.name
        content = torch.load(path / "global_step3" / file.name if other else file, weights_only=False)
        state = content["optimizer_state_dict"]["base_optimizer_state"]
        for place in (*state["state"].values(), *state["param_groups"]):
            place.pop("step", None)
        torch.save(content, file)
    assert None is load_shards(shards(path / STEP)).states[rank].step
    assert ["master_differs"] == codes(read(path, tag=STEP))


def change_counts(path: Path, pattern: str, change: Callable[[dict[str, Any]], None]) -> None:
    for file in path.glob(pattern):
        content = torch.load(file, weights_only=False)
        change(content)
        torch.save(content, file)


@pytest.mark.parametrize(
    ("case", "file"),
    [
        ("zero2", f"bf16_{OPTIM.format(1)}"),
        ("zero2", "mp_rank_00_model_states.pt"),
        ("zero3", "zero_pp_rank_1_mp_rank_00_model_states.pt"),
    ],
)
def test_files_of_two_versions_are_of_two_saves(
    case: str, file: str, broken: Callable[[str], Path], tmp_path: Path
) -> None:
    """One file that another DeepSpeed wrote, of the same step and numbers: an error names it, and nothing is merged."""
    path = broken(case) / STEP
    assert (path / file).is_file()

    def write_older(content: dict[str, Any]) -> None:
        content["ds_version"] = "0.14.5"
        if "optimizer_state_dict" in content:
            content["optimizer_state_dict"]["ds_version"] = "0.14.5"

    change_counts(path, file, write_older)
    found = only(read(path))
    assert ("versions_mixed", Severity.ERROR, str(path / file)) == (found.code, found.severity, found.path)
    rank = 0 if file.startswith("mp_rank") else 1
    assert f"the files are of different versions of DeepSpeed (rank {rank}: 0.14.5; rank" in found.message
    done = merge(read(path), tmp_path / "out")
    assert (1, False) == (done.status().exit_code, done.written)


def test_counts_of_steps_under_zero3_are_compared(broken: Callable[[str], Path]) -> None:
    """ZeRO-3 has one copy of the weights; its model files count 5 steps, 2 of them skipped, its optimizers took 2."""
    path = broken("zero3") / STEP
    change_counts(path, "*model_states.pt", lambda content: content.update(global_steps=4, skipped_steps=2))
    assert () == read(path).findings
    change_counts(path, "*model_states.pt", lambda content: content.update(global_steps=5))
    found = only(read(path))
    assert ("step_counts_differ", Severity.WARN) == (found.code, found.severity)
    assert "the model files count 3 steps of 5, without the 2 skipped, and the optimizers took 2" == found.message


def test_optimizers_under_zero3_that_count_nothing(broken: Callable[[str], Path]) -> None:
    """That ranks without counts are of one save cannot be told, which is said."""

    def forget(content: dict[str, Any]) -> None:
        state = content["optimizer_state_dict"]["optimizer_state_dict"]
        for place in (*state["state"].values(), *state["param_groups"]):
            place.pop("step", None)

    path = broken("zero3") / STEP
    change_counts(path, "*optim_states.pt", forget)
    found = only(read(path))
    assert ("steps_not_compared", Severity.WARN) == (found.code, found.severity)
    assert found.message.startswith("the optimizers of ranks 0-1 count no steps")


def test_a_rank_too_many_is_stale(broken: Callable[[str], Path], small: dict[str, Any], tensors: Any) -> None:
    """A file of rank 5 beside a save of 2 ranks is of another save, and changes nothing."""
    path = broken("zero3")
    shutil.copy(path / STEP / f"bf16_{OPTIM.format(1)}", path / STEP / f"bf16_{OPTIM.format(5)}")
    source = read(path, tag=STEP)
    assert "shard_stale" == only(source).code
    assert "it is of rank 5, and 2 ranks saved this checkpoint (0-1)" == only(source).message
    assert small["zero3"].engine("masters") == tensors(source)


def test_optimizers_of_two_precisions_are_of_two_saves(
    broken: Callable[[str], Path], small: dict[str, Any], tensors: Any
) -> None:
    """A tag that fp32 and then bf16 training wrote has each rank twice; the newer files count."""
    path = broken("zero2")
    for rank in (0, 1):
        old = path / STEP / OPTIM.format(rank)
        shutil.copy(path / "global_step3" / f"bf16_{old.name}", old)
        os.utime(old, (1, 1))
    source = read(path, tag=STEP)
    assert ["shard_stale", "shard_stale"] == codes(source)
    assert "optimizers of bf16 and fp32 training lie side by side; the newer files are bf16" in only_message(source)
    assert small["zero2"].engine("masters") == tensors(source)


def only_message(source: Source) -> str:
    (message,) = {entry.message for entry in source.findings}
    return message


def test_model_files_of_two_stages_are_of_two_saves(broken: Callable[[str], Path], small: dict[str, Any]) -> None:
    """ZeRO-3 over a tag of ZeRO-2 leaves its model file; the optimizers tell which one counts."""
    path = broken("zero3")
    shutil.copy(small["zero2"].tag / "mp_rank_00_model_states.pt", path / STEP)
    source = read(path, tag=STEP)
    assert ("deepspeed-zero3", "shard_stale") == (source.format, only(source).code)
    assert Path(only(source).path).name == "mp_rank_00_model_states.pt"


def test_shards_of_another_model_do_not_add_up(broken: Callable[[str], Path], small: dict[str, Any]) -> None:
    """Each element has to be there once: partitions of another length are refused, with both numbers."""
    path = broken("zero2")
    shutil.copy(small["zero2-aligned"].tag / f"bf16_{OPTIM.format(1)}", path / STEP)
    assert ["elements_differ"] == codes(read(path, tag=STEP))
    assert "has 2 groups of weights, the model's file 1" in only(read(path, tag=STEP)).message
    shutil.copy(small["zero1-bf16"].tag / f"bf16_{OPTIM.format(1)}", path / STEP)
    assert () == read(path, tag=STEP).findings  # the same model, padding and steps: the same numbers
    path = broken("zero3-nodes")
    shutil.copy(small["zero3"].tag / f"bf16_{OPTIM.format(1)}", path / STEP / OPTIM.format(1))
    found = only(read(path))
    assert "elements_differ" == found.code
    assert "rank 1 of 2 has to hold 92 elements in 3 sub-groups, and holds 68" == found.message
