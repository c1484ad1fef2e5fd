"""Distributed checkpoints of torch that something happened to: what is found, and what can still be read."""

from __future__ import annotations

import io
import os
import pickle
import re
import shutil
import struct
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from orz_ckpt.errors import EscapeError, FormatError, HostileError
from orz_ckpt.formats.torch_file import load
from orz_ckpt.merge.run import merge
from orz_ckpt.readers.dcp.metadata import read_metadata
from orz_ckpt.readers.dcp.reader import read, recognises
from orz_ckpt.tensors.coverage import check_coverage
from orz_ckpt.verify import verify
from orz_cli.findings import Severity, Status
from orz_cli.main import main

if TYPE_CHECKING:
    from collections.abc import Callable

    from orz_ckpt.findings import CkptFinding
    from orz_ckpt.tensors.source import Source

torch = pytest.importorskip("torch")
dcp = pytest.importorskip("torch.distributed.checkpoint")

pytestmark = pytest.mark.component

Numbers = dict[str, tuple[str, tuple[int, ...], bytes]]
OF_RANK_1 = {"scale"}
"""Tensors without elements on rank 1."""


def only(source: Source) -> CkptFinding:
    (found,) = source.findings
    return found


def codes(source: Source) -> list[str]:
    return [entry.code for entry in source.findings]


def save_flat_or_not(folder: Path, state: dict[str, Any], *, flat: bool) -> Path:
    writer, planner = dcp.FileSystemWriter(folder), dcp.DefaultSavePlanner(flatten_state_dict=flat)
    dcp.save(state, storage_writer=writer, planner=planner, no_dist=True)
    return folder


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
@pytest.mark.parametrize("beside", [True, False])
@pytest.mark.parametrize("key", ["model", "app"])
def test_a_model_that_was_saved_as_one_object(key: str, beside: bool, tmp_path: Path) -> None:
    """No list says where its tensors lie: what is listed beside it is not taken for the model."""
    model = {"w": torch.ones(3)}
    state = {key: model if key == "model" else {"model": model}, **({"step": torch.tensor(7)} if beside else {})}
    report = verify(save_flat_or_not(tmp_path / "one", state, flat=False))
    (told,) = [entry for entry in report.findings if entry.severity is Severity.ERROR]

    assert (Status.INCONCLUSIVE, "weights_not_read") == (report.status(), told.code)
    assert told.message.startswith(f"'{key}' was saved as one object")
    assert 3 == main(["ckpt", "merge", str(tmp_path / "one"), str(tmp_path / "out")])
    name = save_flat_or_not(tmp_path / "name", {"model": "qwen", "w": torch.ones(3)}, flat=False)
    assert (Status.OK, ["w"]) == (verify(name).status(), [tensor.name for tensor in read(name).tensors.values()])


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_bytes_beside_weights(tmp_path: Path) -> None:
    """As some layers keep their scales: they are no code."""
    state = {"model": {"w": torch.ones(3), "layer._extra_state": io.BytesIO(b"abc")}}
    assert Status.OK == verify(save_flat_or_not(tmp_path / "bytes", state, flat=True)).status()


@pytest.mark.parametrize("leftover", ["nothing", "a whole .metadata.tmp", "half a .metadata.tmp"])
def test_a_save_that_never_finished(
    leftover: str, broken: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without .metadata nobody knows what the data is: exit 1, and whether a rename would be enough."""
    path = broken("dcp_nested")
    if leftover != "nothing":
        data = (path / ".metadata").read_bytes()
        (path / ".metadata.tmp").write_bytes(data if "whole" in leftover else data[: len(data) // 2])
    (path / ".metadata").unlink()
    assert recognises(path)
    found = only(read(path))
    assert ("uncommitted", "rename" in found.remedy) == (found.code, "whole" in leftover)
    assert 1 == main(["ckpt", "merge", str(path), str(tmp_path / "out")])
    assert "3 files of data" in capsys.readouterr().out


def test_missing_files_are_named_by_rank(
    broken: Callable[[str], Path], expected: Callable[[str], Numbers], tmp_path: Path
) -> None:
    """The files of a rank on another node are one finding with the rank's number; what is whole is left."""
    path = broken("dcp_flat")
    for file in path.glob("__1_*.distcp"):
        file.unlink()
    source = read(path)
    found = only(source)
    assert "ranks_missing" == found.code
    assert found.message.startswith("2 files of rank 1 are missing, with ")
    assert "__1_0.distcp, __1_1.distcp" in found.message
    assert OF_RANK_1 <= source.tensors.keys() < expected("dcp_flat").keys()
    assert [] == check_coverage(source)
    assert not merge(source, tmp_path / "out").written


def test_a_torn_file_is_one_finding(broken: Callable[[str], Path]) -> None:
    """However many chunks of a file are gone, it is named once, with where it should have ended."""
    path = broken("dcp_nested")
    file = path / "__2_0.distcp"
    file.write_bytes(file.read_bytes()[:3000])
    found = only(read(path))
    assert ("shard_torn", str(file)) == (found.code, found.path)
    assert "3,000 bytes" in found.message


def test_data_of_another_save_is_found(broken: Callable[[str], Path], saved: Callable[[str], Path]) -> None:
    """A data file that a later save wrote over does not fit the metadata, and nothing of it is used."""
    path = broken("dcp_nested")
    shutil.copy(path / "__0_0.distcp", path / "__1_0.distcp")
    source = read(path)
    assert codes(source)[0] in {"shards_disagree", "shard_torn"}
    assert str(path / "__1_0.distcp") == source.findings[0].path
    used = {piece.block.path.name for tensor in source.tensors.values() for piece in tensor.pieces}
    assert {"__0_0.distcp", "__2_0.distcp"} == used | {"__2_0.distcp"}


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_data_of_an_older_save_of_the_same_layout(tmp_path: Path) -> None:
    """Files of two saves fit each other to the byte; the optimizer's counts, or else their times, tell them apart."""
    for step in (3, 4):
        state = {
            "model": {"a": torch.full((5,), float(step)), "b": torch.full((2, 3), float(step))},
            "optimizer": {"state": {name: {"step": torch.tensor(float(step))} for name in ("a", "b")}},
        }
        writer = dcp.FileSystemWriter(tmp_path / str(step), single_file_per_rank=False)
        dcp.save(state, storage_writer=writer, no_dist=True)
    path = tmp_path / "4"
    assert () == read(path).findings
    entries = {entry.key: entry.chunks[0].file for entry in read_metadata(path / ".metadata").entries}
    shutil.copyfile(tmp_path / "3" / entries["model.a"], path / entries["model.a"])
    assert () == read(path).findings  # nothing but its numbers is other than it was
    now = (path / ".metadata").stat().st_mtime
    os.utime(path / entries["model.a"], (now - 3600, now - 3600))
    found = only(read(path))
    assert ("steps_not_compared", Severity.WARN) == (found.code, found.severity)
    assert f"{entries['model.a']} was written at " in found.message
    shutil.copyfile(tmp_path / "3" / entries["optimizer.state.a.step"], path / entries["optimizer.state.a.step"])
    found = only(read(path))
    assert ("steps_mixed", Severity.ERROR) == (found.code, found.severity)
    assert f"{entries['optimizer.state.a.step']!r}: step 3" in found.message
    assert not merge(read(path), tmp_path / "out").written


def test_data_of_an_older_save_of_several_ranks(broken: Callable[[str], Path], saved: Callable[[str], Path]) -> None:
    """One rank's file of another step, each rank's own optimizer in it: named, with both steps."""
    path = broken("dcp_nested")
    file = path / "__1_0.distcp"
    data = bytearray(file.read_bytes())
    for entry in read_metadata(path / ".metadata").entries:
        for chunk in entry.chunks:
            if entry.key.endswith(".step") and chunk.file == file.name:
                block = load(file, offset=chunk.offset, nbytes=chunk.nbytes).value
                data[block.offset : block.offset + 4] = struct.pack("<f", 8.0)
    file.write_bytes(data)
    found = only(read(path))
    assert "steps_mixed" == found.code
    assert "('__1_0.distcp': step 8; '__2_0.distcp': step 1)" in found.message


def test_data_that_metadata_does_not_describe(broken: Callable[[str], Path]) -> None:
    """A file that is longer than its metadata says was written by another save."""
    path = broken("dcp_flat")
    file = path / "__0_0.distcp"
    nbytes = file.stat().st_size
    file.write_bytes(file.read_bytes() + bytes(64))
    found = only(read(path))
    assert ("steps_not_compared", str(file)) == (found.code, found.path)
    assert f"has {nbytes + 64:,} bytes, and the metadata describes {nbytes:,}" in found.message


def test_leftover_data_is_a_warning(broken: Callable[[str], Path], tmp_path: Path) -> None:
    """Data files of an earlier save on more ranks are named, and do not change what is read."""
    path = broken("dcp_single")
    shutil.copy(path / "__0_0.distcp", path / "__9_0.distcp")
    source = read(path)
    assert ("shards_unused", Severity.WARN) == (only(source).code, only(source).severity)
    assert "__9_0.distcp" in only(source).message
    assert merge(source, tmp_path / "out").written


def test_a_rank_without_its_metadata(broken: Callable[[str], Path]) -> None:
    """Where every rank describes its own chunks, the one that is missing is named."""
    path = broken("dcp_no_collectives")
    (path / "__1.metadata").unlink()
    source = read(path)
    (missing,) = [entry for entry in source.findings if entry.code == "ranks_missing"]
    assert "the metadata of rank 1 is missing" in missing.message
    assert "tensor_hole" in {entry.code for entry in check_coverage(source)}


def test_copies_of_ranks_without_collectives_are_compared(
    broken: Callable[[str], Path],
    expected: Callable[[str], Numbers],
    patched: Callable[[Path, bytes, bytes], None],
) -> None:
    """Where every rank stores a replicated tensor, one that differs is found."""
    path = broken("dcp_no_collectives")
    old = expected("dcp_no_collectives")["rope"][2]
    patched(path / "__2_0.distcp", old, bytes([old[0] ^ 1]) + old[1:])
    assert ("copies_differ", "rope") == (only(read(path)).code, only(read(path)).tensor)


def test_changed_bytes_are_refused(saved: Callable[[str], Path], tmp_path: Path) -> None:
    """What an extension made of the bytes is not guessed: the extension is named, and the verdict is exit 3."""
    source = read(saved("dcp_transformed"))
    assert "layout_unsupported" == only(source).code
    assert "test.reversed/1" in only(source).message
    assert Status.INCONCLUSIVE == merge(source, tmp_path / "out").status()


def test_a_lost_shard_of_the_safetensors_variant(broken: Callable[[str], Path]) -> None:
    """A gap between shards is named and leaves a hole; that a lost last one would not show is always said."""
    path = broken("hf_shards")
    assert ["shapes_derived"] == codes(read(path))
    (path / "shard-00002-model-00001-of-00001.safetensors").unlink()
    source = read(path)
    assert "there is no shard 2" in only(source).message
    assert "tensor_hole" in {entry.code for entry in check_coverage(source)}


@pytest.mark.parametrize("breakage", ["torn", "no places", "places of another kind"])
def test_a_shard_that_does_not_say_where_it_belongs(breakage: str, broken: Callable[[str], Path]) -> None:
    """A torn shard, and one without places for its tensors, are findings."""
    path = broken("hf_shards")
    file = path / "shard-00003-model-00001-of-00001.safetensors"
    data = file.read_bytes()
    if breakage == "torn":
        file.write_bytes(data[:-1])
    elif breakage == "no places":
        file.write_bytes(data.replace(b"DCP_SHARDING_INFO", b"dcp_sharding_info"))
    else:
        file.write_bytes(data.replace(b"[8, 0]", b"[8   ]"))
    assert "shard_torn" in codes(read(path))


def test_megatron_keeps_its_names(broken: Callable[[str], Path]) -> None:
    """A folder that Megatron-Core wrote is read, and it is said that no Hugging Face loader knows its names."""
    path = broken("dcp_single")
    (path / "metadata.json").write_text('{"sharded_backend": "torch_dist"}', encoding="utf-8")
    assert ("names_foreign", Severity.WARN) == (only(read(path)).code, only(read(path)).severity)


class Canary:
    def __init__(self, file: Path) -> None:
        self._file = file

    def __reduce__(self) -> Any:
        return (exec, (f"open({str(self._file)!r}, 'w')",))


def metadata_of(path: Path) -> Any:
    return pickle.loads((path / ".metadata").read_bytes())  # noqa: S301  our own


def test_metadata_that_would_run_code_is_refused(broken: Callable[[str], Path], tmp_path: Path) -> None:
    """`.metadata` is a pickle, which torch runs; here it is exit 4, and nothing ran."""
    path = broken("dcp_single")
    metadata = metadata_of(path)
    metadata.planner_data = Canary(tmp_path / "ran")
    (path / ".metadata").write_bytes(pickle.dumps(metadata))
    with pytest.raises(HostileError, match=r"\.metadata.*builtins\.exec"):
        read(path)
    assert 4 == main(["ckpt", "merge", str(path), str(tmp_path / "out")])
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a\\b", "", "..", "a\nb"])
def test_metadata_that_names_other_folders_is_refused(name: str, broken: Callable[[str], Path]) -> None:
    """A chunk in a file outside the folder is never opened."""
    path = broken("dcp_single")
    metadata = metadata_of(path)
    for info in metadata.storage_data.values():
        info.relative_path = name
    (path / ".metadata").write_bytes(pickle.dumps(metadata))
    with pytest.raises(EscapeError, match="no file of its folder"):
        read(path)
    codes_of_errors = {entry.code for entry in verify(path).findings if entry.severity is Severity.ERROR}
    assert {"path_escapes"} == codes_of_errors
    assert 4 == main(["ckpt", "merge", str(path), str(path.parent / "out")])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("state_dict_metadata", None),
        ("storage_data", []),
        ("storage_data", {3: 4}),
    ],
)
def test_metadata_without_its_parts(field: str, value: object, broken: Callable[[str], Path]) -> None:
    """A pickle that is no metadata of torch is an error that says what it lacks."""
    path = broken("dcp_single")
    metadata = metadata_of(path)
    setattr(metadata, field, value)
    (path / ".metadata").write_bytes(pickle.dumps(metadata))
    with pytest.raises(FormatError, match=r"not a sound \.metadata: it"):
        read(path)


def test_every_cut_of_metadata_is_an_error(broken: Callable[[str], Path]) -> None:
    """`.metadata` cut off anywhere, or with bytes behind it, is never read as something else."""
    path = broken("dcp_single")
    data = (path / ".metadata").read_bytes()
    for cut in [*range(0, len(data), 7), len(data) + 1]:
        (path / ".metadata").write_bytes((data + b"\0")[:cut])
        with pytest.raises(FormatError):
            read(path)


@pytest.mark.parametrize("case", ["dcp_nested", "dcp_gap"])
def test_a_flipped_bit_of_metadata_hides_no_tensor(case: str, broken: Callable[[str], Path]) -> None:
    """A bit of `.metadata` that flipped is an error, or the same tensors are read from the same places."""
    path = broken(case)
    file = path / ".metadata"
    data, sound = file.read_bytes(), places_of(read(path))
    texts = [match.start() for match in re.finditer(rb"(model|layers|__\d)[._]\w|planner_data", data)]
    numbers = [match.end() for match in re.finditer(rb"offset", data)]
    for place in [*texts, *(place + behind for place in numbers for behind in range(1, 8))]:
        for bit in (0, 1, 3):
            flipped = bytearray(data)
            flipped[place] ^= 1 << bit
            file.write_bytes(flipped)
            try:
                source = read(path)
            except (FormatError, HostileError, EscapeError):
                continue
            found = [*source.findings, *check_coverage(source)]
            told = any(entry.severity is Severity.ERROR for entry in found)
            assert told or sound == places_of(source), (place, bit)


def places_of(source: Source) -> dict[str, object]:
    return {name: (tensor.dtype, tensor.shape, set(tensor.pieces)) for name, tensor in source.tensors.items()}


def test_an_object_without_bytes(broken: Callable[[str], Path]) -> None:
    """It has the place of what follows it, and takes none of it."""
    path = broken("dcp_nested")
    metadata = metadata_of(path)
    step = next(index for index in metadata.storage_data if index.fqn == "train_state.step")
    first = next(info for index, info in metadata.storage_data.items() if index != step)
    for name, place in (("a.empty", replace(first, length=0)), ("z.empty", replace(first, length=0))):
        metadata.state_dict_metadata[name] = metadata.state_dict_metadata["train_state.step"]
        metadata.storage_data[replace(step, fqn=name)] = place
        metadata.planner_data[name] = tuple(name.split("."))
    (path / ".metadata").write_bytes(pickle.dumps(metadata))
    assert Status.OK is verify(path).status(), verify(path).findings


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("a name that is described", "in the state dict it has 'model.ip.weight' in no place"),
        ("a name that is stored", "does not say where 'model.up.weight' from .* on is stored"),
        ("an object's name that is stored", "does not say where 'train_state.step' is stored"),
        ("nothing describes it", "it stores 'model.up.weight', and does not say what that is"),
        ("nothing is where it begins", "does not say where 'model.up.weight' from .* on is stored"),
        ("two in one place", "in one place, byte "),
        ("a path", "in the state dict it has 'model.up.weight' at 'mndel.up.weight'"),
        ("no path", "in the state dict it has 'model.up.weight' in no place"),
    ],
)
def test_metadata_that_contradicts_itself(
    change: str, says: str, broken: Callable[[str], Path], tmp_path: Path
) -> None:
    """What is described, what is stored and where it was are the same; a tensor is never left out without a word."""
    path = broken("dcp_nested")
    metadata = metadata_of(path)
    described, stored, paths = metadata.state_dict_metadata, metadata.storage_data, metadata.planner_data
    indexes = [index for index in stored if index.fqn == "model.up.weight"]
    step = next(index for index in stored if index.fqn == "train_state.step")
    match change:
        case "a name that is described":
            described["model.ip.weight"] = described.pop("model.up.weight")
        case "a name that is stored":
            for index in indexes:
                stored[replace(index, fqn="model.ip.weight")] = stored.pop(index)
        case "an object's name that is stored":
            stored[replace(step, fqn="train_stage.step")] = stored.pop(step)
        case "nothing describes it":
            del described["model.up.weight"]
        case "nothing is where it begins":
            chunk = described["model.up.weight"].chunks[0]
            chunk.offsets = chunk.sizes = torch.Size([1, 1])
        case "two in one place":
            stored[indexes[0]] = next(info for index, info in stored.items() if index.fqn == "model.norm.weight")
        case "a path":
            paths["model.up.weight"] = ("mndel", "up.weight")
        case _:
            del paths["model.up.weight"]
    (path / ".metadata").write_bytes(pickle.dumps(metadata))

    with pytest.raises(FormatError, match=rf"\.metadata: not a sound \.metadata: .*{says}"):
        read(path)
    assert Status.FAILED is verify(path).status()
    assert 1 == main(["ckpt", "merge", str(path), str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("one in another's place", "in one place, byte "),
        ("an index without a name", "it stores something without a name"),
        ("a chunk that is larger than its tensor", "has a chunk of 'model.up.weight' that is no part of it"),
    ],
)
def test_metadata_that_no_save_has(change: str, says: str, broken: Callable[[str], Path]) -> None:
    """Places lie behind each other, all have names, and chunks lie in their tensors."""
    path = broken("dcp_nested")
    metadata = metadata_of(path)
    stored = metadata.storage_data
    index = next(index for index in stored if index.fqn == "model.up.weight")
    match change:
        case "one in another's place":
            other = next(info for index, info in stored.items() if index.fqn == "model.norm.weight")
            stored[index] = replace(other, offset=other.offset + 1)
        case "an index without a name":
            stored[replace(index, fqn=("model", "up"))] = stored.pop(index)
        case _:
            metadata.state_dict_metadata["model.up.weight"].chunks[0].sizes = torch.Size([999, 1])
    (path / ".metadata").write_bytes(pickle.dumps(metadata))

    with pytest.raises(FormatError, match=rf"not a sound \.metadata: .*{says}"):
        read(path)
