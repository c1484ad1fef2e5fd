"""Real DeepSpeed checkpoints that something happened to: what is found, and what can still be read."""

from __future__ import annotations

import os
import pickle
import shutil
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from orz_ckpt.errors import FormatError, HostileError, MissingPathError
from orz_ckpt.merge.run import merge
from orz_ckpt.readers.deepspeed import masters_differ, names, read, recognises, tags
from orz_ckpt.readers.deepspeed.loading import load as load_shards
from orz_ckpt.readers.deepspeed.names import shards
from orz_ckpt.sources import open_source
from orz_cli.findings import Severity

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from orz_ckpt.findings import CkptFinding
    from orz_ckpt.tensors.source import Source

pytestmark = pytest.mark.component

Tensors = dict[str, tuple[str, tuple[int, ...], bytes]]
STEP = "global_step2"
OPTIM = "zero_pp_rank_{}_mp_rank_00_optim_states.pt"
BUFFERS = {"seen", "mask", "norm.shift"}
FROZEN = {"norm.weight", "norm.bias", "second.weight"}


@pytest.fixture
def broken(small: dict[str, Any], tmp_path: Path) -> Callable[[str], Path]:
    """The function that copies a case's checkpoint, to break it."""

    def copy(name: str) -> Path:
        return small[name].copy_to(tmp_path / name)

    return copy


def only(source: Source) -> CkptFinding:
    (found,) = source.findings
    return found


def codes(source: Source) -> list[str]:
    return [entry.code for entry in source.findings]


def subset(found: Mapping[str, object], expected: Mapping[str, object]) -> bool:
    return all(expected[name] == value for name, value in found.items())


# --- ranks that are not there -------------------------------------------------------------------------


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


# --- shards of several saves --------------------------------------------------------------------------


def test_shards_of_different_steps_are_found_where_the_tool_merges_them(small: dict[str, Any]) -> None:
    """A save that was cut off over an older one: `zero_to_fp32` says nothing, this names ranks and steps."""
    case = small["zero2"]
    assert (case.folder / "tool_mixed.safetensors").exists()
    source = read(case.checkpoint, tag="mixed")
    assert "steps_mixed" == only(source).code
    assert "the optimizers' counts of steps differ (rank 1: step 2; rank 0: step 3)" == only(source).message
    assert case.checkpoint / "mixed" / f"bf16_{OPTIM.format(1)}" in {Path(only(source).path), *source.files}


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


# --- files that are broken ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["zero2", "zero3", "zero3-nodes"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_torn_shard_is_named(name: str, share: float, broken: Callable[[str], Path]) -> None:
    """A shard that ends early is an error at its path, and not a missing rank; the rest is still read."""
    path = broken(name)
    (file,) = (path / STEP).glob(f"*{OPTIM.format(1)}")
    os.truncate(file, int(file.stat().st_size * share))
    source = read(path, tag=STEP)
    assert ("shard_torn", str(file)) == (only(source).code, only(source).path)
    assert BUFFERS <= source.tensors.keys()
    assert "first.weight" not in source.tensors


def test_a_torn_model_file_leaves_no_names(broken: Callable[[str], Path]) -> None:
    """Both are said: the file is broken, and so nothing has a name."""
    path = broken("zero2")
    os.truncate(path / STEP / "mp_rank_00_model_states.pt", 1000)
    assert ["shard_torn", "model_states_missing"] == codes(read(path, tag=STEP))


def test_what_was_on_nvme_is_not_in_the_shards(small: dict[str, Any]) -> None:
    """Empty sub-groups where weights should be are an error that says why, and never empty weights."""
    source = read(small["zero3"].checkpoint, tag="swapped")
    assert "weights_swapped" == only(source).code
    assert "the fp32 weights of ranks 0-1 were on NVMe" in only(source).message
    assert {*BUFFERS, *FROZEN, "spare.none", "spare.nothing"} == source.tensors.keys()


class _Canary:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


def test_a_hostile_shard_is_refused_and_runs_nothing(broken: Callable[[str], Path], tmp_path: Path) -> None:
    """A pickle that calls a program raises the error of exit code 4, whichever file it is in."""
    path, canary = broken("zero2"), tmp_path / "canary"
    for name in (f"bf16_{OPTIM.format(0)}", "mp_rank_00_model_states.pt"):
        with zipfile.ZipFile(path / STEP / name, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr("archive/data.pkl", pickle.dumps({"optimizer_state_dict": _Canary(canary)}, protocol=2))
            archive.writestr("archive/version", "3\n")
        with pytest.raises(HostileError, match="system"):
            read(path, tag=STEP)
    assert not canary.exists()


@pytest.mark.parametrize("value", [[], {"module": 3}, {"optimizer_state_dict": []}, {"optimizer_state_dict": {}}])
def test_a_file_of_something_else_is_no_shard(value: object, broken: Callable[[str], Path]) -> None:
    """A torch file that is not DeepSpeed's is a finding that says what was expected in it."""
    path = broken("zero2")
    with zipfile.ZipFile(path / STEP / f"bf16_{OPTIM.format(0)}", "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(value, protocol=2))
    found = only(read(path, tag=STEP))
    assert ("shard_torn", True) == (found.code, "expected" in found.message)


# --- which tag ----------------------------------------------------------------------------------------


def test_latest_names_the_tag(small: dict[str, Any]) -> None:
    """Without a tag, `latest` decides; a tag's own folder needs neither."""
    path = small["zero2"].checkpoint
    assert (3, "global_step3") == (read(path).step, read(path).facts["tag"])
    assert 2 == read(path / STEP).step
    assert 2 == read(path, tag=STEP).step
    assert path / "latest" in read(path).files
    assert all(recognises(folder) for folder in (path, path / STEP, path / "universal"))
    assert not recognises(small["zero2"].folder)


def test_a_dangling_latest_names_the_newest_whole_tag(broken: Callable[[str], Path]) -> None:
    """`latest` was written before the tag was whole, and the tag is gone: the remedy names another one."""
    path = broken("zero2")
    (path / "latest").write_text("global_step4\n")
    (path / "global_step3" / "mp_rank_00_model_states.pt").unlink()
    shutil.rmtree(path / "mixed")
    source = read(path)
    assert ({}, "tag_missing") == (source.tensors, only(source).code)
    assert "`latest` names 'global_step4', which is not here" in only(source).message
    assert only(source).remedy.endswith("--tag global_step2")


def test_several_tags_without_latest_are_not_guessed(broken: Callable[[str], Path]) -> None:
    """Which of them is meant is the user's to say; the newest is proposed."""
    path = broken("zero2")
    (path / "latest").unlink()
    source = read(path)
    assert ("tag_missing", "say which: --tag global_step3") == (only(source).code, only(source).remedy)


@pytest.mark.parametrize("text", ["../zero2", "/etc", "", "a/b", "\x1b[2J", "\xff" * 5000])
def test_a_latest_that_leads_elsewhere_is_not_followed(text: str, broken: Callable[[str], Path]) -> None:
    """It has to be the name of a folder beside it; nothing else is opened or printed raw."""
    path = broken("zero2")
    (path / "latest").write_text(text, encoding="latin-1")
    with pytest.raises(FormatError, match="is not the name of a folder beside it") as caught:
        read(path)
    assert caught.value.message.isprintable()


def test_an_unknown_tag_is_wrong_usage(small: dict[str, Any]) -> None:
    """The error lists the tags that are there."""
    for tag in ("global_step9", "../zero3/checkpoint", "latest"):
        with pytest.raises(MissingPathError, match=r"has no tag .*\n.*'global_step2', 'global_step3'"):
            read(small["zero2"].checkpoint, tag=tag)


def test_a_folder_of_something_else_is_not_recognised(tmp_path: Path) -> None:
    """Neither by `recognises` nor by `read`, which says what it looked for."""
    (tmp_path / "optim_states.pt").touch()
    (tmp_path / "global_step2").mkdir()
    assert not recognises(tmp_path)
    with pytest.raises(FormatError, match="no DeepSpeed checkpoint"):
        read(tmp_path)


def test_folders_that_may_not_be_looked_into_are_none_of_its_tags(
    small: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recognising a folder looks into all that lie in it, such as lost+found, and must not fail there."""

    def holds_one(folder: Path) -> bool:
        if folder.name == "mixed":
            raise PermissionError(13, "Permission denied", str(folder))
        return names.holds_one(folder)

    monkeypatch.setattr(tags, "holds_one", holds_one)
    present = [folder.name for folder in tags.tags(small["zero2"].checkpoint)]
    assert ["universal", STEP, "global_step3"] == present


def test_only_its_own_files_belong_to_it(broken: Callable[[str], Path]) -> None:
    """What else lies in a tag's folder is not listed: it may be a home directory."""
    path = broken("zero3")
    (path / STEP / "notes.txt").touch()
    (path / STEP / "large").mkdir()
    (path / STEP / "large" / "zero_pp_rank_9_mp_rank_00_optim_states.pt").touch()
    (path / STEP / "offloaded_tensors" / "rank00").mkdir(parents=True)
    (path / STEP / "offloaded_tensors" / "rank00" / "1.tensor.swp").touch()
    expected = [
        f"bf16_{OPTIM.format(0)}",
        f"bf16_{OPTIM.format(1)}",
        "offloaded_tensors/rank00/1.tensor.swp",
        "zero_pp_rank_0_mp_rank_00_model_states.pt",
        "zero_pp_rank_1_mp_rank_00_model_states.pt",
    ]
    assert expected == [file.relative_to(path / STEP).as_posix() for file in read(path, tag=STEP).files]


def test_any_command_opens_it(small: dict[str, Any]) -> None:
    """`open_source` finds the format, and passes the tag on."""
    assert ("deepspeed-zero2", 2) == (
        open_source(small["zero2"].checkpoint, tag=STEP).format,
        open_source(small["zero2"].checkpoint, tag=STEP).step,
    )


# --- other layouts ------------------------------------------------------------------------------------


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


def test_a_conversion_that_was_cut_off_is_found(broken: Callable[[str], Path]) -> None:
    """`ds_to_universal` writes parameter by parameter and copies the model files last."""
    path = broken("zero2") / "universal"
    shutil.rmtree(path / "zero" / "embed.weight")
    found = only(read(path))
    assert "elements_differ" == found.code
    assert "1 of 4 parameters have no fp32.pt; the first is 'embed.weight'" == found.message
    os.truncate(path / "zero" / "scale" / "fp32.pt", 100)
    assert ["shard_torn", "elements_differ"] == codes(read(path))
    (path / "mp_rank_00_model_states.pt").unlink()
    assert ["shard_torn", "model_states_missing"] == codes(read(path))
