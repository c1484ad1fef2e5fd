"""What is done to a real checkpoint once it is saved: DeepSpeed's tools asked, older layouts and crashes imitated."""

from __future__ import annotations

import shutil
import traceback
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from deepspeed.checkpoint import ds_to_universal
from deepspeed.utils.zero_to_fp32 import (
    convert_zero_checkpoint_to_fp32_state_dict,
    get_fp32_state_dict_from_zero_checkpoint,
)
from safetensors.torch import save_file


def ask_the_tool(checkpoint: Path, folder: Path, name: str = "tool", tag: str | None = None) -> None:
    """Record what `zero_to_fp32` makes of a checkpoint, or says."""
    try:
        found = get_fp32_state_dict_from_zero_checkpoint(str(checkpoint), tag=tag)
        save_file({key: tensor.contiguous().clone() for key, tensor in found.items()}, folder / f"{name}.safetensors")
    except Exception:  # noqa: BLE001  # whatever it says
        (folder / f"{name}.txt").write_text(traceback.format_exc())


def export(checkpoint: Path, folder: Path) -> None:
    """Record what the tool's command writes, or says."""
    try:
        convert_zero_checkpoint_to_fp32_state_dict(str(checkpoint), str(folder / "export"), safe_serialization=True)
    except Exception:  # noqa: BLE001  # whatever it says
        (folder / "export.txt").write_text(traceback.format_exc())


def convert(tag: Path) -> None:
    """Make a universal checkpoint beside `tag`."""
    ds_to_universal.main(
        SimpleNamespace(
            input_folder=str(tag),
            output_folder=str(tag.with_name("universal")),
            num_extract_workers=1,
            num_merge_workers=1,
            keep_temp_folder=False,
            strict=True,
            inject_missing_state=True,
        )
    )


def mix(checkpoint: Path, folder: Path) -> None:
    """Overwrite a tag with an older one's rank 1, as a crash in the middle of a save leaves it."""
    shutil.copytree(checkpoint / "global_step3", checkpoint / "mixed")
    for shard in (checkpoint / "global_step2").glob("*zero_pp_rank_1_*"):
        shutil.copy(shard, checkpoint / "mixed" / shard.name)
    ask_the_tool(checkpoint, folder, name="tool_mixed", tag="mixed")


def rewrite(tag: Path, name: str, change: Callable[[Path, dict[str, Any]], None]) -> None:
    """Copy a tag, with something changed in its files."""
    copy = tag.with_name(name)
    copy.mkdir()
    for file in sorted(tag.iterdir()):
        content = torch.load(file, weights_only=False)
        change(file, content)
        torch.save(content, copy / file.name)


def swap_out(file: Path, content: dict[str, Any]) -> None:
    """Leave an empty tensor where the fp32 weights were."""
    if "optimizer_state_dict" in content:
        state = content["optimizer_state_dict"]
        state["fp32_flat_groups"] = [torch.empty(0) for _ in state["fp32_flat_groups"]]


def make_older(file: Path, content: dict[str, Any]) -> None:
    """Move the shapes to where older versions had them."""
    model = torch.load(file.with_name("mp_rank_00_model_states.pt"), weights_only=False)
    if "optimizer_state_dict" in content:
        content["param_shapes"] = {name: shape for group in model["param_shapes"] for name, shape in group.items()}
        state = content["optimizer_state_dict"]
        state["partition_count"] = max(state["partition_count"])
        state["zero_stage"] = int(state["zero_stage"])
        for key in ("param_alignment_paddings", "group_paddings", "param_slice_mappings"):
            del state[key]
    else:
        for key in ("param_shapes", "shared_params", "frozen_param_shapes", "frozen_param_fragments"):
            del content[key]


def make_more(case: dict[str, Any], checkpoint: Path, folder: Path) -> None:
    """Make what else a case asks for; rank 0 does it alone."""
    tag = checkpoint / "global_step2"
    ask_the_tool(checkpoint, folder, tag=tag.name)
    if case["export"]:
        export(checkpoint, folder)
    if case["universal"]:
        convert(tag)
    if case["again"]:
        mix(checkpoint, folder)
    if case["swapped"]:
        rewrite(tag, "swapped", swap_out)
    if case["older"]:
        rewrite(tag, "older", make_older)
