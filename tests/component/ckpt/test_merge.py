"""Merging into a Hugging Face folder: the weights, what stands beside them, what is refused, what is gone on with."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from orz_ckpt.errors import CheckpointExistsError, CkptError, FormatError
from orz_ckpt.findings import Severity
from orz_ckpt.manifest import MANIFEST_NAME, load
from orz_ckpt.merge import run as merge_run
from orz_ckpt.merge.copy import budget
from orz_ckpt.merge.journal import Journal, RunningError
from orz_ckpt.merge.plan import make_plan
from orz_ckpt.merge.run import Options, merge
from orz_ckpt.sources import open_source
from orz_ckpt.tensors.gather import UnreadableError
from orz_ckpt.tensors.source import Source
from orz_ckpt.verify import verify
from orz_cli.errors import UsageError
from orz_cli.exits import ExitCode
from orz_cli.findings import Status
from orz_cli.main import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

pytestmark = pytest.mark.component

MB = 1_000_000
POLICY: dict[str, Any] = {
    "architectures": ["Qwen2ForCausalLM"],
    "vocab_size": 33,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "torch_dtype": "float32",
}


def tensors_of(folder: Path) -> dict[str, NDArray[Any]]:
    """Return what safetensors itself reads."""
    tensors: dict[str, NDArray[Any]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors |= load_file(file)
    return tensors


def same(expected: dict[str, NDArray[Any]], got: dict[str, NDArray[Any]]) -> bool:
    return expected.keys() == got.keys() and all(
        (array.dtype, array.shape, array.tobytes()) == (got[name].dtype, got[name].shape, got[name].tobytes())
        for name, array in expected.items()
    )


def codes(findings: tuple[Any, ...]) -> list[str]:
    return [entry.code for entry in findings]


def with_tie(source: Source, alias: str, name: str) -> Source:
    """Return a source of which `alias` is the same tensor as `name`."""
    tensors = {key: tensor for key, tensor in source.tensors.items() if key != alias}
    return replace(source, tensors=tensors, aliases={alias: name})


def test_one_file(model: Path, tmp_path: Path) -> None:
    """Two shards become one file with the same tensors, index left out, config and tokenizer kept; it verifies."""
    merged = merge(open_source(model), tmp_path / "out")

    assert (Status.OK, True, 1, 0) == (merged.status(), merged.written, merged.files, merged.kept)
    assert same(tensors_of(model), tensors_of(tmp_path / "out"))
    assert ["config.json", "manifest.json", "model.safetensors", "tokenizer.json"] == sorted(
        entry.name for entry in (tmp_path / "out").iterdir()
    )
    report = verify(tmp_path / "out")
    assert (Status.OK, []) == (report.status(), codes(report.findings))
    assert merged.tensors == report.tensors


def test_shards_and_index(model: Path, tmp_path: Path) -> None:
    """Past the largest size a new file begins; the index names each tensor's file and the bytes of all."""
    expected = tensors_of(model)
    merged = merge(open_source(model), tmp_path / "out", Options(max_shard_bytes=4000))
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_bytes())

    assert merged.files == len(list((tmp_path / "out").glob("model-*-of-*.safetensors")))
    assert merged.files > 2
    assert sum(array.nbytes for array in expected.values()) == index["metadata"]["total_size"]
    assert expected.keys() == index["weight_map"].keys()
    for name, file in index["weight_map"].items():
        with safe_open(tmp_path / "out" / file, "numpy") as opened:
            assert expected[name].tobytes() == opened.get_tensor(name).tobytes()
            assert {"format": "pt"} == opened.metadata()
    assert Status.OK is verify(tmp_path / "out").status()
    largest = max(array.nbytes for array in expected.values())
    assert all(
        sum(array.nbytes for array in load_file(file).values()) <= max(4000, largest)
        for file in (tmp_path / "out").glob("*.safetensors")
    )


def test_cast(model: Path, tmp_path: Path) -> None:
    """As bfloat16 every float is the upper half of its float32, rounded; config.json says so; integers stay."""
    file = next(model.glob("model-00001*"))
    ids = np.arange(5, dtype=np.int64)
    save_file({**load_file(file), "position_ids": ids}, file)
    (model / "model.safetensors.index.json").unlink()
    save_file({**tensors_of(model)}, model / "model.safetensors")
    for shard in model.glob("model-*"):
        shard.unlink()
    expected = tensors_of(model)
    merge(open_source(model), tmp_path / "out", Options(dtype="BF16"))

    source = open_source(tmp_path / "out")
    assert ["BF16", "I64"] == sorted({tensor.dtype for tensor in source.tensors.values()})
    for name, tensor in source.tensors.items():
        block = tensor.pieces[0].block
        raw = block.path.read_bytes()[block.offset : block.offset + block.nbytes]
        if name == "position_ids":
            assert ids.tobytes() == raw
            continue
        bits = expected[name].view(np.uint32).astype(np.uint64)
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        assert rounded.astype(np.uint16).tobytes() == raw
    assert "bfloat16" == json.loads((tmp_path / "out" / "config.json").read_bytes())["torch_dtype"]


def test_config_comes_from_where_it_is_asked(model: Path, tmp_path: Path) -> None:
    """`config` wins over the checkpoint's own; `dtype`, as transformers 5 calls it, is set; the rest is untouched."""
    other = tmp_path / "other"
    other.mkdir()
    config = {**POLICY, "dtype": "float16", "marker": {"kept": [1]}}
    del config["torch_dtype"]
    (other / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (other / "tokenizer.json").write_text("mine", encoding="utf-8")
    (other / "model.safetensors").write_bytes(b"not copied")
    merge(open_source(model), tmp_path / "out", Options(config=other))

    written = json.loads((tmp_path / "out" / "config.json").read_bytes())
    assert {**config, "dtype": "float32"} == written
    assert "mine" == (tmp_path / "out" / "tokenizer.json").read_text(encoding="utf-8")
    assert same(tensors_of(model), tensors_of(tmp_path / "out"))


def test_no_config(model: Path, tmp_path: Path) -> None:
    """Without a configuration the weights are written with a warning, and verify: exit 0."""
    (model / "config.json").unlink()
    merged = merge(open_source(model), tmp_path / "out")

    assert (["config_missing"], Status.OK) == (codes(merged.findings), merged.status())
    assert ["manifest.json", "model.safetensors"] == sorted(entry.name for entry in (tmp_path / "out").iterdir())
    report = verify(tmp_path / "out")
    assert Status.OK is report.status()
    (remedy,) = (entry.remedy for entry in report.findings if entry.code == "config_missing")
    assert remedy.startswith(f"orz ckpt merge {model} OUT --config DIR ")


def test_a_config_of_another_model(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where shapes are not those of the configuration, that is an error which names the tensor and `--config`."""
    config = json.loads((model / "config.json").read_bytes())
    sound = tmp_path / "sound"
    sound.mkdir()
    shutil.copy(model / "config.json", sound)
    (model / "config.json").write_text(json.dumps({**config, "hidden_size": 32}), encoding="utf-8")
    merged = merge(open_source(model), tmp_path / "out")

    assert (Status.FAILED, False) == (merged.status(), merged.written)
    wrong = [entry for entry in merged.findings if entry.severity is Severity.ERROR]
    assert {"shape_differs"} == {entry.code for entry in wrong}
    assert all("--config" in entry.remedy for entry in wrong)
    assert 1 == main(["ckpt", "merge", str(model), str(tmp_path / "out")])
    assert "nothing was written" in capsys.readouterr().out
    assert not list(tmp_path.glob("out*"))
    assert Status.OK is merge(open_source(model), tmp_path / "out", Options(config=sound)).status()


def test_a_config_that_promises_more(model: Path, tmp_path: Path) -> None:
    """A layer that config.json has and the weights have not: a loader would make it up, so nothing is written."""
    config = json.loads((model / "config.json").read_bytes())
    layers = config["num_hidden_layers"]
    (model / "config.json").write_text(json.dumps({**config, "num_hidden_layers": layers + 1}), encoding="utf-8")
    merged = merge(open_source(model), tmp_path / "out")

    assert (Status.FAILED, False) == (merged.status(), merged.written)
    assert any(f"model.layers.{layers}." in entry.tensor for entry in merged.findings if entry.code == "tensor_missing")


def test_another_source_with_names_sizes_and_times_alike(model: Path, tmp_path: Path) -> None:
    """Two saves whose files look the same by name, size and time are two merges, wherever their numbers differ."""
    other = tmp_path / "other"
    shutil.copytree(model, other)
    for file in other.glob("*.safetensors"):
        data, status = bytearray(file.read_bytes()), file.stat()
        data[len(data) // 2] ^= 1  # neither in its header nor at its end
        file.write_bytes(data)
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert merge(open_source(model), tmp_path / "out").written
    with pytest.raises(CheckpointExistsError, match="another checkpoint"):
        merge(open_source(other), tmp_path / "out")
    for file in model.glob("*.safetensors"):  # in its very place
        status = file.stat()
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        with file.open("r+b") as stream:
            stream.write(data)
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(CheckpointExistsError, match="another checkpoint"):
        merge(open_source(model), tmp_path / "out")


def test_missing_config_folder(model: Path, tmp_path: Path) -> None:
    """A `--config` without config.json is wrong usage, found before anything is written."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"there is no config\.json"):
        merge(open_source(model), tmp_path / "out", Options(config=tmp_path / "empty"))

    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("kept", ["lm_head.weight", "model.embed_tokens.weight"])
def test_tied(model: Path, tmp_path: Path, kept: str) -> None:
    """Of a tied pair the embedding is written and the head left out, whichever the source keeps; config.json ties."""
    other = {"lm_head.weight": "model.embed_tokens.weight"}.get(kept, "lm_head.weight")
    expected = tensors_of(model)
    expected["model.embed_tokens.weight"] = expected[kept]
    del expected["lm_head.weight"]
    merged = merge(with_tie(open_source(model), other, kept), tmp_path / "out")

    assert same(expected, tensors_of(tmp_path / "out"))
    assert json.loads((tmp_path / "out" / "config.json").read_bytes())["tie_word_embeddings"] is True
    assert [] == codes(merged.findings)
    with safe_open(tmp_path / "out" / "model.safetensors", "numpy") as opened:
        assert {"format": "pt", "lm_head.weight": "model.embed_tokens.weight"} == opened.metadata()
    assert Status.OK is verify(tmp_path / "out").status()


def test_tied_by_config_alone(model: Path, tmp_path: Path) -> None:
    """Head and embedding that differ are not tied, whatever config.json says: a loader would drop the head."""
    config = json.loads((model / "config.json").read_bytes())
    (model / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}), encoding="utf-8")
    merged = merge(open_source(model), tmp_path / "out")

    assert ["tie_differs"] == codes(merged.findings)
    assert json.loads((tmp_path / "out" / "config.json").read_bytes())["tie_word_embeddings"] is False
    assert "lm_head.weight" in tensors_of(tmp_path / "out")


def test_critic(model: Path, tmp_path: Path) -> None:
    """One score a token in place of the head makes it a token classifier of one label, which verifies as one."""
    tensors = tensors_of(model)
    del tensors["lm_head.weight"]
    tensors["score.weight"] = np.ones((1, 16), dtype=np.float32)
    critic = tmp_path / "critic"
    critic.mkdir()
    save_file(tensors, critic / "model.safetensors")
    merged = merge(open_source(critic), tmp_path / "out", Options(config=model))
    config = json.loads((tmp_path / "out" / "config.json").read_bytes())

    assert ["Qwen2ForTokenClassification"] == config["architectures"]
    assert {"0": "LABEL_0"} == config["id2label"]
    assert ["value_head"] == codes(merged.findings)
    assert Status.OK is verify(tmp_path / "out").status()


def test_a_value_head_of_orz(model: Path, tmp_path: Path) -> None:
    """A head that no loader of Hugging Face knows is named after the class that has it."""
    tensors = tensors_of(model)
    del tensors["lm_head.weight"]
    tensors["value_head.weight"] = np.ones((1, 16), dtype=np.float32)
    critic = tmp_path / "critic"
    critic.mkdir()
    save_file(tensors, critic / "model.safetensors")
    merged = merge(open_source(critic), tmp_path / "out", Options(config=model))

    assert ["CriticModel"] == json.loads((tmp_path / "out" / "config.json").read_bytes())["architectures"]
    assert "value_head" in codes(merged.findings)


def test_twice(model: Path, tmp_path: Path) -> None:
    """The same merge again writes nothing and says so; what it was made from is in the manifest."""
    first = merge(open_source(model), tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    again = merge(open_source(model), tmp_path / "out")

    assert (False, True) == (first.was_there, again.was_there)
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    assert "hf" == dict(load(tmp_path / "out" / MANIFEST_NAME).meta)["source"]["format"]  # type: ignore[index]


def test_twice_after_a_change(model: Path, tmp_path: Path) -> None:
    """A merged folder of which a file was cut since is not called finished."""
    merge(open_source(model), tmp_path / "out")
    os.truncate(tmp_path / "out" / "model.safetensors", 1000)
    with pytest.raises(CheckpointExistsError, match=r"model\.safetensors has changed since"):
        merge(open_source(model), tmp_path / "out")


@pytest.mark.parametrize("what", ["options", "source", "folder", "file", "link"])
def test_out_is_taken(model: Path, tmp_path: Path, what: str) -> None:
    """Whatever else is at OUT stays as it is: another merge, a folder, a file, a link."""
    out = tmp_path / "out"
    options = Options()
    if what in {"options", "source"}:
        merge(open_source(model), out)
        if what == "options":
            options = Options(dtype="F16")
        else:
            os.utime(next(model.glob("model-00001*")), ns=(1, 1))
    elif what == "folder":
        (out / "data").mkdir(parents=True)
    elif what == "file":
        out.write_text("mine", encoding="utf-8")
    else:
        out.symlink_to(tmp_path)
    before = sorted(out.iterdir()) if out.is_dir() else []
    with pytest.raises(CheckpointExistsError, match="OUT"):
        merge(open_source(model), out, options)

    assert before == (sorted(out.iterdir()) if out.is_dir() else [])
    assert not (tmp_path / "out.tmp-merge").exists()


def test_an_empty_folder_is_filled(model: Path, tmp_path: Path) -> None:
    """A folder that was made for the output and holds nothing is taken."""
    (tmp_path / "out").mkdir()
    merge(open_source(model), tmp_path / "out")

    assert same(tensors_of(model), tensors_of(tmp_path / "out"))


@pytest.mark.parametrize("out", ["", "deep/inside", "..", "../../"])
def test_in_each_other(model: Path, out: str) -> None:
    """An output inside the checkpoint, around it, or the checkpoint itself is refused, and nothing is made."""
    before = sorted(model.rglob("*"))
    with pytest.raises(CheckpointExistsError, match="OUT"):
        merge(open_source(model), model / out)

    assert before == sorted(model.rglob("*"))


def test_in_each_other_through_a_link(model: Path, tmp_path: Path) -> None:
    """A link does not hide that the output lies in the checkpoint."""
    (tmp_path / "link").symlink_to(model)
    with pytest.raises(CheckpointExistsError, match="inside the checkpoint"):
        merge(open_source(model), tmp_path / "link" / "out")


def test_broken_source(model: Path, tmp_path: Path) -> None:
    """A missing shard is exit 1 with the file named, and nothing is written."""
    next(model.glob("model-00002*")).unlink()
    merged = merge(open_source(model), tmp_path / "out")

    assert (Status.FAILED, False) == (merged.status(), merged.written)
    assert "file_missing" in codes(merged.findings)
    assert not list(tmp_path.glob("out*"))


def test_missing_elements(model: Path, tmp_path: Path) -> None:
    """A tensor of which a piece is in no file is named, with the range; and nothing is written."""
    source = open_source(model)
    tensor = source.tensors["lm_head.weight"]
    flat = replace(tensor.pieces[0], block=tensor.pieces[0].block.flat(0, 100), start=(0,))
    holed = replace(tensor, grid=(tensor.numel,), pieces=(flat,))
    merged = merge(replace(source, tensors={**source.tensors, tensor.name: holed}), tmp_path / "out")

    assert (["tensor_hole"], False) == (codes(merged.findings), merged.written)
    assert "428 of 528 elements are in no file, first 100 to 528" in merged.findings[0].message
    assert not list(tmp_path.glob("out*"))


def test_a_source_that_shrinks(model: Path, tmp_path: Path) -> None:
    """A file that is cut after it was listed is found before anything is written."""
    source = open_source(model)
    os.truncate(next(model.glob("model-00001*")), 1000)
    merged = merge(source, tmp_path / "out")

    assert (Status.FAILED, False) == (merged.status(), merged.written)
    assert "tensor_hole" in codes(merged.findings)


def test_goes_on_file_by_file(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an error in the third file the first two are kept; the next run writes the rest and the same bytes."""
    options = Options(max_shard_bytes=4000, jobs=1)
    merge(open_source(model), tmp_path / "expected", options)
    written: list[str] = []
    add = Journal.add

    def fail(journal: Journal, copied: Any) -> None:
        if len(written) == 2:
            raise OSError(5, "Input/output error")
        written.append(copied.file.name)
        add(journal, copied)

    monkeypatch.setattr(Journal, "add", fail)
    with pytest.raises(CkptError, match=r"Input/output error.*what is finished stays in"):
        merge(open_source(model), tmp_path / "out", options)
    assert not (tmp_path / "out").exists()
    assert {*written, ".orz"} == {entry.name for entry in (tmp_path / "out.tmp-merge").iterdir()}

    monkeypatch.undo()
    inodes = {name: (tmp_path / "out.tmp-merge" / name).stat().st_ino for name in written}
    merged = merge(open_source(model), tmp_path / "out", options)
    assert 2 == merged.kept
    assert inodes == {name: (tmp_path / "out" / name).stat().st_ino for name in written}
    expected = load(tmp_path / "expected" / MANIFEST_NAME)
    assert expected.root_sha256 == load(tmp_path / "out" / MANIFEST_NAME).root_sha256
    assert not (tmp_path / "out.tmp-merge").exists()


@pytest.mark.parametrize("damage", ["torn line", "short file", "other merge", "no journal line"])
def test_what_cannot_be_trusted_is_written_again(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    """A torn journal, a short file, or the files of another merge are never kept."""
    options = Options(max_shard_bytes=4000, jobs=1)
    monkeypatch.setattr(merge_run, "write_beside", lambda *_: (_ for _ in ()).throw(OSError(5, "stop")))
    with pytest.raises(CkptError, match="stop"):
        merge(open_source(model), tmp_path / "out", options)
    monkeypatch.undo()
    folder = tmp_path / "out.tmp-merge"
    journal = folder / ".orz" / "merge.jsonl"
    finished = len(journal.read_bytes().splitlines()) - 1
    if damage == "torn line":
        os.truncate(journal, journal.stat().st_size - 10)
        finished -= 1
    elif damage == "short file":
        os.truncate(next(folder.glob("model-00001-of-*")), 100)
        finished -= 1
    elif damage == "other merge":
        options = replace(options, dtype="F16")
        finished = 0
    else:
        journal.write_bytes(b"")
        finished = 0
    merged = merge(open_source(model), tmp_path / "out", options)

    assert finished == merged.kept
    assert Status.OK is verify(tmp_path / "out").status()


def test_two_at_once(model: Path, tmp_path: Path) -> None:
    """While one process merges into OUT, another is told so and writes nothing."""
    source = open_source(model)
    plan = make_plan(source, max_shard_bytes=MB)
    with Journal(tmp_path / "out.tmp-merge", plan, "f"), pytest.raises(RunningError, match="another process"):
        merge(source, tmp_path / "out")

    assert not (tmp_path / "out").exists()


def test_a_folder_in_the_way(model: Path, tmp_path: Path) -> None:
    """A folder of somebody else under the name of the unfinished one is not touched."""
    mine = tmp_path / "out.tmp-merge" / "mine"
    mine.mkdir(parents=True)
    with pytest.raises(CkptError, match="in the way"):
        merge(open_source(model), tmp_path / "out")

    assert mine.is_dir()


def test_a_name_that_cannot_be_written(model: Path, tmp_path: Path) -> None:
    """A tensor called `__metadata__` would change what the file says; it is refused."""
    source = open_source(model)
    tensor = replace(source.tensors["lm_head.weight"], name="__metadata__")
    with pytest.raises(FormatError, match="no name for a tensor"):
        merge(replace(source, tensors={"__metadata__": tensor}), tmp_path / "out")


def test_nothing_to_merge(model: Path, tmp_path: Path) -> None:
    """A checkpoint without tensors fails; it does not give an empty model."""
    merged = merge(replace(open_source(model), tensors={}), tmp_path / "out")

    assert (["no_weights"], Status.FAILED, False) == (codes(merged.findings), merged.status(), merged.written)


@pytest.mark.parametrize(
    ("jobs", "memory", "expected"),
    [(2, 64 << 20, (2, 4, 4 << 20)), (8, 16 << 20, (3, 5, 1 << 20)), (4, 0, (1, 2, 1 << 20))],
)
def test_memory_is_divided(jobs: int, memory: int, expected: tuple[int, int, int]) -> None:
    """Buffers shrink first, then threads; one thread with two buffers of 1 MiB always remains."""
    limits = budget(jobs=jobs, max_memory_bytes=memory)

    assert expected == (limits.workers, limits.buffers, limits.chunk_bytes)


@pytest.mark.parametrize(("dtype", "remedy"), [("float32", "dtype='F32'"), ("int8", "dtype='keep'")])
def test_a_type_that_nothing_is_cast_to(dtype: str, remedy: str) -> None:
    """It is refused where it is given, with the name that is meant."""
    with pytest.raises(UsageError, match=f"dtype='{dtype}': expected keep, F64, F32, F16 or BF16") as caught:
        Options(dtype=dtype)

    assert remedy == caught.value.remedy


def test_a_step_folder(step: Path, tmp_path: Path, make_model: Callable[..., Path]) -> None:
    """A role of one of our step folders is merged with its step; the step itself names its roles."""
    merged = merge(open_source(step / "critic"), tmp_path / "out")

    assert (50, "orz-train 0.1.0") == (merged.source.step, merged.source.writer)
    assert 50 == load(tmp_path / "out" / MANIFEST_NAME).step
    assert same(tensors_of(step / "critic"), tensors_of(tmp_path / "out"))
    with pytest.raises(CkptError, match=r"holds 2 models: critic, policy"):
        open_source(step)


def test_a_source_that_cannot_be_read(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read error names the file that it came from, is exit 3, and leaves nothing behind."""

    def fail(*_: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("orz_ckpt.tensors.gather.os.preadv", fail)
    with pytest.raises(
        UnreadableError, match=r"model-0000\d-of-00002\.safetensors cannot be read: Input/output"
    ) as caught:
        merge(open_source(model), tmp_path / "out")

    assert ExitCode.INCONCLUSIVE is caught.value.exit_code
    assert not list(tmp_path.glob("out*"))
