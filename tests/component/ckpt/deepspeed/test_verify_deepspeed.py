"""`verify` on checkpoints of the real DeepSpeed: every byte, ranks on other nodes, NaN by the parameter's name.

Covers F1, F10, F11, F13, F16, F28 and F37 of the failure modes: what happens to shards of ZeRO.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import struct
from typing import TYPE_CHECKING, Any

import pytest
from safetensors.numpy import load_file, save_file

from orz_ckpt.findings import Level, Report
from orz_ckpt.formats.torch_file import load
from orz_ckpt.merge.run import Options, merge
from orz_ckpt.readers.deepspeed import read
from orz_ckpt.sources import open_source
from orz_ckpt.verify import verify
from orz_cli.findings import Severity, Status
from orz_cli.main import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from orz_ckpt.tensors.source import SourceTensor

pytestmark = pytest.mark.component

STEP = "global_step2"
CASES = ["zero0", "zero1", "zero1-bf16", "zero2", "zero2-older", "zero2-aligned", "zero2-empty", "zero3"]
ONE_COPY = {"zero3"}
NAN = struct.pack("<f", float("nan"))


def codes(report: Report) -> set[str]:
    return {entry.code for entry in report.findings if entry.severity is not Severity.INFO}


def notes(report: Report) -> set[str]:
    return {entry.code for entry in report.findings if entry.severity is Severity.INFO}


def the(report: Report, code: str) -> Any:
    (found,) = (entry for entry in report.findings if entry.code == code)
    return found


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def place_of(tensor: SourceTensor, element: int) -> tuple[Path, int]:
    """Return the file and the byte of an element of the flattened tensor."""
    (piece,) = (piece for piece in tensor.pieces if piece.start[0] <= element < piece.start[0] + piece.block.numel)
    return piece.block.path, piece.block.offset + (element - piece.start[0]) * piece.block.itemsize


@pytest.mark.parametrize("name", CASES)
def test_sound(name: str, small: dict[str, Any]) -> None:
    """A root and a tag pass on every level; both copies of the weights agree; a merge is advised, as a note."""
    path = small[name].checkpoint
    for level in Level:
        report = verify(path / STEP, level=level)
        expected = {"no_manifest", "not_merged", *(["sampled"] if level is Level.SAMPLE else [])}
        expected |= {"one_copy"} if level is Level.DEEP and name in ONE_COPY else set()
        assert (Status.OK, set(), expected) == (report.status(), codes(report), notes(report)), level
    root = verify(path)

    assert (Status.OK, set()) == (root.status(), codes(root))
    assert len(open_source(path).tensors) == root.tensors
    assert f"orz ckpt merge {path} OUT" in the(root, "not_merged").remedy


@pytest.mark.parametrize("name", ["zero2", "zero3"])
def test_universal(name: str, small: dict[str, Any]) -> None:
    """A universal checkpoint passes, optimizer states of each parameter included."""
    report = verify(small[name].checkpoint / "universal")

    assert (Status.OK, set()) == (report.status(), codes(report))
    assert any(path.endswith("exp_avg.pt") for path in report.checked)


def test_universal_that_swapped_weights(small: dict[str, Any]) -> None:
    """`ds_to_universal` of DeepSpeed 0.19.8 swaps weights of round-robin partitions, in files that are all sound."""
    report = verify(small["zero1"].checkpoint / "universal")

    assert {"master_differs"} == codes(report)
    assert the(report, "master_differs").message.startswith("2 of 9 weights")


@pytest.mark.parametrize("name", ["zero0", "zero1-bf16", "zero2", "zero3"])
def test_one_wrong_bit_in_any_record(name: str, broken: Callable[[str], Path]) -> None:
    """One wrong bit in any record of any shard is found without a manifest, and names the file (F10)."""
    path = broken(name) / STEP
    for file in sorted(path.iterdir()):
        sound = file.read_bytes()
        for record in load(file).records:
            if record.nbytes:
                flip(file, (record.offset + record.end) // 2)
                report = verify(path)
                assert Status.FAILED is report.status(), record.name
                errors = {entry.path for entry in report.findings if entry.severity is Severity.ERROR}
                assert str(file) in errors
                assert "/data/" not in record.name or {str(file)} == errors
                file.write_bytes(sound)


def test_damage_names_the_parameters(broken: Callable[[str], Path]) -> None:
    """A damaged partition of ZeRO names the parameters in it, not the flat buffer."""
    path = broken("zero2") / STEP
    file, byte = place_of(read(path).tensors["first.weight"], 3)
    flip(file, byte)

    assert "'first.weight'" in the(verify(path), "record_crc_differs").message


@pytest.mark.parametrize("name", ["zero2", "zero3"])
def test_nan_by_name_and_place(
    name: str, broken: Callable[[str], Path], overwrite: Callable[[Path, int, bytes], None]
) -> None:
    """NaN in a partition is told by the parameter's name and its index in it (F28)."""
    path = broken(name) / STEP
    tensor = read(path).tensors["first.weight"]
    assert (5, 7) == tensor.shape
    overwrite(*place_of(tensor, 3 * 7 + 4), NAN)
    found = the(verify(path), "not_finite")

    assert ("first.weight", True) == (found.tensor, "first at [3, 4]" in found.message)


def padding(path: Path) -> tuple[Path, list[int]]:
    """Return the file of rank 1, and where the padding behind first.weight is in it: weights, both Adam's averages."""
    last = read(path).tensors["first.weight"].pieces[-1]
    assert 17 == last.block.numel  # of 35 elements 18 are rank 0's, 17 rank 1's, then comes one of padding
    file, end = last.block.path, last.block.offset + last.block.nbytes
    state = load(file).value["optimizer_state_dict"]
    groups = state["fp32_flat_groups"]
    index = next(index for index, group in enumerate(groups) if group.offset <= end < group.offset + group.nbytes)
    moments = state["optimizer_state_dict"]["state"][index]
    behind = end - groups[index].offset
    return file, [end, moments["exp_avg"].offset + behind, moments["exp_avg_sq"].offset + behind]


def test_padding_is_nobodys(broken: Callable[[str], Path], overwrite: Callable[[Path, int, bytes], None]) -> None:
    """What lies behind the last element of a parameter is padding, which may hold anything; before it, nothing may."""
    path = broken("zero3") / STEP
    file, places = padding(path)
    for place in places:
        overwrite(file, place, NAN)
    report = verify(path)
    assert (Status.OK, set()) == (report.status(), codes(report))
    assert all(math.isfinite(entry.statistics.norm) for entry in verify(path, level=Level.DEEP).statistics)

    names = ("first.weight", "exp_avg of first.weight", "exp_avg_sq of first.weight")
    for place, name in zip(places, names, strict=True):
        before = file.read_bytes()
        overwrite(file, place - 4, NAN)
        assert the(verify(path), "not_finite").tensor.endswith(name)
        file.write_bytes(before)


def test_padding_is_known_without_the_other_ranks(
    broken: Callable[[str], Path], overwrite: Callable[[Path, int, bytes], None]
) -> None:
    """Of ZeRO-3 a rank's own files say which elements are padding, and the numbers beside it are looked at."""
    path = broken("zero3") / STEP
    file, places = padding(path)
    for rank_0 in path.glob("*zero_pp_rank_0_*"):
        rank_0.unlink()
    for place in places:
        overwrite(file, place, NAN)
    assert {"ranks_missing"} == codes(verify(path))

    overwrite(file, places[0] - 4, NAN)
    assert "first.weight" in the(verify(path), "not_finite").tensor


def test_nan_of_the_optimizer(broken: Callable[[str], Path], overwrite: Callable[[Path, int, bytes], None]) -> None:
    """NaN in Adam's averages, with which no training could go on, is found, too."""
    path = broken("zero2") / STEP
    file = path / "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt"
    state = load(file).value["optimizer_state_dict"]["base_optimizer_state"]["state"]
    overwrite(file, next(iter(state.values()))["exp_avg"].offset, NAN)

    assert "exp_avg" in the(verify(path), "not_finite").tensor


def test_zeros_of_all_ranks(broken: Callable[[str], Path], overwrite: Callable[[Path, int, bytes], None]) -> None:
    """A weight is all zeros if it is on every rank: half of one is not."""
    path = broken("zero3") / STEP
    tensor = read(path).tensors["first.weight"]
    for number, piece in enumerate(tensor.pieces):
        overwrite(piece.block.path, piece.block.offset, bytes(piece.block.nbytes))
        found = [entry.tensor for entry in verify(path).findings if entry.code == "all_zero"]
        assert ([] if number == 0 else ["first.weight"]) == found


def test_ranks_on_another_node(small: dict[str, Any]) -> None:
    """ZeRO-3 of two nodes with disks of their own: each half fails, and says which ranks are here (F1)."""
    case = small["zero3-nodes"]
    for node in (0, 1):
        report = verify(case.folder / f"node-{node}")
        found = [entry for entry in report.findings if entry.code == "ranks_missing"]
        assert (Status.FAILED, {"ranks_missing"}) == (report.status(), codes(report) - {"latest_missing"})
        assert 2 == len(found)
        assert all(entry.message.startswith("1 of 2 shards") for entry in found)
        assert all(f"(rank {node}); missing: rank {1 - node}" in entry.message for entry in found)
        assert all("orz ckpt locate" in entry.remedy for entry in found)


def test_latest_without_its_tag(broken: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    """`latest` names a tag that was never finished: the newest whole one is named, and --tag reads it (F11)."""
    path = broken("zero2")
    (path / "latest").write_text("global_step9", encoding="utf-8")
    found = the(verify(path), "tag_missing")

    assert ("'global_step9'" in found.message, "--tag global_step3" in found.remedy) == (True, True)
    assert 1 == main(["ckpt", "verify", str(path)])
    assert 0 == main(["ckpt", "verify", str(path), "--tag", "global_step3"])
    assert 2 == main(["ckpt", "verify", str(path), "--tag", "global_step4"])
    capsys.readouterr()


def test_latest_that_is_incomplete(broken: Callable[[str], Path]) -> None:
    """The tag that `latest` names lacks a rank: it fails, and another that looks complete is named (F11)."""
    path = broken("zero2")
    next((path / "global_step3").glob("*rank_1*")).unlink()
    report = verify(path)

    assert {"ranks_missing"} == codes(report)
    assert STEP in the(report, "newest_good").message


def test_latest_that_is_behind(broken: Callable[[str], Path]) -> None:
    """A tag newer than the one that `latest` names is a save that was cut off, or was never named (F12)."""
    path = broken("zero2")
    (path / "latest").write_text(STEP, encoding="utf-8")
    found = the(verify(path), "latest_behind")

    assert (Severity.WARN, True) == (found.severity, "'global_step3' is newer" in found.message)


def test_an_older_tag_that_was_asked_for(broken: Callable[[str], Path]) -> None:
    """`latest` names the newest, which is broken: the command that the report recommends warns of nothing."""
    path = broken("zero2")
    shard = next((path / "global_step3").glob("*optim_states.pt"))
    os.truncate(shard, shard.stat().st_size // 2)
    shutil.rmtree(path / "universal", ignore_errors=True)
    shutil.rmtree(path / "mixed", ignore_errors=True)
    remedy = the(verify(path), "newest_good").remedy
    assert f"orz ckpt verify {path} --tag {STEP}" == remedy

    assert 0 == main([*remedy.split()[1:], "--fail-on", "warn"])
    (path / "latest").unlink()
    assert set() == codes(verify(path, tag=STEP))


def test_a_newer_tag_without_shards(broken: Callable[[str], Path]) -> None:
    """A save makes the folder first: one that was cut off there, or went to another disk, is told."""
    path = broken("zero2")
    (path / "global_step10").mkdir()
    (path / "checkpoint-10").mkdir()  # no tag
    report = verify(path)

    assert (Status.OK, {"latest_behind"}) == (report.status(), codes(report))
    assert "'global_step3' is taken, and 'global_step10' is newer" in the(report, "latest_behind").message


def test_mixed_steps(small: dict[str, Any]) -> None:
    """Shards of two steps in one folder are named by rank and step (F13)."""
    report = verify(small["zero2"].checkpoint / "mixed")

    assert {"steps_mixed"} == codes(report)
    assert "rank 1: step 2; rank 0: step 3" in the(report, "steps_mixed").message


def test_two_copies_of_two_steps(broken: Callable[[str], Path]) -> None:
    """A model file of another step than the optimizers' is found by its numbers alone, on every level (F13)."""
    path = broken("zero2") / STEP
    shutil.copy(path.parent / "global_step3" / "mp_rank_00_model_states.pt", path)

    for level in Level:
        report = verify(path, level=level)
        assert (Status.FAILED, {"master_differs"}) == (report.status(), codes(report)), level


def test_trainer_folder(broken: Callable[[str], Path]) -> None:
    """Settings of transformers' Trainer beside a tag: that weights for loaders have to be merged is said (F16)."""
    path = broken("zero2")
    (path / "config.json").write_text("{}", encoding="utf-8")
    assert {"not_merged", "no_manifest", "shapes_not_checked", "tags_not_judged"} == notes(verify(path))
    (path / "tokenizer.json").write_text('{"model": ', encoding="utf-8")
    (path / "model.safetensors").write_bytes(b"")
    report = verify(path)

    assert {"header_invalid"} == codes(report) - {"settings_invalid", "tensor_missing"}
    assert "not_merged" not in notes(report)


def test_names_that_the_configuration_promises(broken: Callable[[str], Path]) -> None:
    """Names that are none of the configuration's architecture are not judged by it."""
    path = broken("zero2")
    config = {"architectures": ["Qwen2ForCausalLM"], "vocab_size": 13, "hidden_size": 7, "intermediate_size": 5}
    more = {"num_hidden_layers": 1, "num_attention_heads": 1, "num_key_value_heads": 1}
    (path / "config.json").write_text(json.dumps({**config, **more}), encoding="utf-8")

    assert "are not named as" in the(verify(path), "shapes_not_checked").message


def test_torn_shard(broken: Callable[[str], Path]) -> None:
    """A shard that a full disk cut off is one finding, with its file (F7)."""
    path = broken("zero3") / STEP
    file = path / "zero_pp_rank_1_mp_rank_00_model_states.pt"
    file.write_bytes(file.read_bytes()[:-200])
    report = verify(path)

    assert ({"shard_torn"}, str(file)) == (codes(report), the(report, "shard_torn").path)


def test_manifest_of_shards(broken: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    """A manifest covers a folder of shards; with it a byte that changed outside of all records is found, too."""
    path = broken("zero2") / STEP
    assert 0 == main(["ckpt", "manifest", str(path)])
    report = verify(path)
    assert (Status.OK, set(), {"not_merged"}) == (report.status(), codes(report), notes(report))
    assert report.subject.startswith("step 2 by orz-ckpt")
    assert 2 == open_source(path).step
    file = path / "mp_rank_00_model_states.pt"
    first = load(file).records[0]
    flip(file, first.offset - 1)  # padding in the archive, of which no record's checksum tells
    capsys.readouterr()

    found = verify(path)
    assert {"digest_differs", "shard_torn", "model_states_missing"} == codes(found)
    assert "its padding is not what torch fills it with" in the(found, "shard_torn").message


def test_against(small: dict[str, Any], tmp_path: Path) -> None:
    """A merged folder is its shards, bit for bit or rounded; a later step is not, but in its frozen weights.

    So is a universal checkpoint what it was made of; any other one of the same numbers was never trained.
    """
    path = small["zero2"].checkpoint
    assert "copy_of_base" in notes(verify(path / "universal", against=path / STEP))
    for same in (STEP, "universal"):
        assert "unchanged" in codes(verify(path / same, against=path / same))
    for dtype, expected in (("keep", "copy_of_base"), ("BF16", "rounded_base")):
        out = tmp_path / dtype
        assert merge(open_source(path / STEP), out, Options(dtype=dtype)).written
        report = verify(out, against=path / STEP)
        assert {expected} == notes(report) & {"copy_of_base", "rounded_base", "compared"}
        assert "0 of 10 tensors differ" in the(report, expected).message
        later = verify(path / "global_step3", against=out)
        assert "compared" in notes(later)
        assert "frozen_changed" not in codes(later)
    assert "unchanged" in codes(verify(path / STEP, against=tmp_path / "keep"))
    rounded = verify(tmp_path / "BF16", against=tmp_path / "keep")  # its frozen weights are BF16 in both
    assert ({"rounded_base"}, False) == (
        notes(rounded) & {"rounded_base", "compared"},
        "unchanged" in codes(rounded),
    )


def test_frozen_weights_that_changed(small: dict[str, Any], tmp_path: Path) -> None:
    """A weight that the checkpoint calls frozen and that differs from the base means another base."""
    path = small["zero2"].checkpoint
    assert merge(open_source(path / STEP), tmp_path / "base", Options(dtype="F32")).written
    file = next((tmp_path / "base").glob("*.safetensors"))
    tensors = load_file(file)
    tensors["norm.weight"] = tensors["norm.weight"] + 1
    (tmp_path / "other").mkdir()
    save_file(tensors, tmp_path / "other" / "model.safetensors")
    report = verify(path / "global_step3", against=tmp_path / "other")

    assert "'norm.weight'" in the(report, "frozen_changed").message
