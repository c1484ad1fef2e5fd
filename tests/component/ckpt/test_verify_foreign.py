"""Folders and files that orz did not write: what can be said without a manifest is said, and no more."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from orz_ckpt.disk import reading
from orz_ckpt.errors import SeveralError
from orz_ckpt.findings import Level, Report
from orz_ckpt.sources import open_source
from orz_ckpt.verify import verify
from orz_cli.findings import Severity, Status

if TYPE_CHECKING:
    from collections.abc import Callable

    WriteModel = Callable[..., Path]

pytestmark = pytest.mark.component

SHARD = "model-00001-of-00002.safetensors"
INDEX = "model.safetensors.index.json"


def codes(report: Report) -> set[tuple[str, str]]:
    """Return code and path of every finding that is no note."""
    return {
        (entry.code, os.path.relpath(entry.path, report.path))
        for entry in report.findings
        if entry.severity is not Severity.INFO
    }


def notes(report: Report) -> set[str]:
    return {entry.code for entry in report.findings if entry.severity is Severity.INFO}


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    change(document)
    path.write_text(json.dumps(document), encoding="utf-8")


@pytest.mark.parametrize("level", list(Level))
def test_sound_folder_without_manifest(model: Path, level: Level) -> None:
    """A sound foreign folder passes, with the note that bytes cannot be compared."""
    report = verify(model, level=level)

    expected = {"no_manifest"} | {Level.SAMPLE: {"sampled"}, Level.DEEP: {"one_copy"}}.get(level, set())
    assert (Status.OK, set(), expected) == (report.status(), codes(report), notes(report))


def test_manifest_can_be_asked_for(model: Path) -> None:
    """With require_manifest a foreign folder fails."""
    report = verify(model, require_manifest=True)

    assert (Status.FAILED, {("manifest_required", ".")}) == (report.status(), codes(report))


def test_single_file(model: Path) -> None:
    """One safetensors file alone is checked for what it holds."""
    assert {"no_manifest"} == notes(verify(model / SHARD))
    os.truncate(model / SHARD, 1000)

    assert {("header_invalid", ".")} == codes(verify(model / SHARD))


def test_truncated_shard(model: Path) -> None:
    """A shard cut short is the one finding, and says where it should end."""
    size = (model / SHARD).stat().st_size
    os.truncate(model / SHARD, size - 10)
    report = verify(model)

    assert (Status.FAILED, {("header_invalid", SHARD)}) == (report.status(), codes(report))
    assert f"its last tensor ends at byte {size:,}, the file at {size - 10:,}: it was cut off" in str(report.findings)


def test_missing_shard(model: Path) -> None:
    """A shard that the index names and that is not there is the one finding; another node may have it."""
    (model / SHARD).unlink()

    report = verify(model)
    assert {("file_missing", SHARD)} == codes(report)
    (found,) = (entry for entry in report.findings if entry.code == "file_missing")
    assert "orz ckpt locate RUN --ray" in found.remedy


@pytest.mark.parametrize("name", ["model-00003-of-00003.safetensors", "model.safetensors"])
def test_stale_shard(model: Path, name: str) -> None:
    """Weights of an earlier save, which a loader could pick up, are found."""
    save_file({"x": np.ones(2, "<f4")}, model / name)

    assert {("shard_orphan", name)} == codes(verify(model))


def test_other_layout_beside(model: Path) -> None:
    """A second copy in another layout, as some folders hold, is not an error."""
    save_file({"layers.0.wq": np.ones(2, "<f4")}, model / "consolidated.safetensors")

    assert set() == codes(verify(model))


def test_shards_without_index(model: Path) -> None:
    """Shards without the index, which is written last, are a save that was cut off."""
    (model / INDEX).unlink()

    assert {("index_invalid", ".")} == codes(verify(model))


def test_index_names_a_tensor_that_is_elsewhere(model: Path) -> None:
    """Index and shards must agree on where each tensor is."""
    edit(model / INDEX, lambda index: index["weight_map"].update({"model.norm.weight": SHARD, "ghost": SHARD}))
    report = verify(model)
    found = {entry.tensor for entry in report.findings if entry.code == "index_differs"}

    assert {("index_differs", INDEX)} == codes(report)
    assert "ghost" in found


def test_tensor_that_the_index_forgets(model: Path) -> None:
    """A tensor that is in a shard and not in the index would not be loaded."""
    edit(model / INDEX, lambda index: index["weight_map"].pop("model.norm.weight"))
    report = verify(model)

    assert {("index_differs", INDEX)} == codes(report)
    assert "the index does not name it" in report.findings[0].message


def test_many_differences_are_cut_short(model: Path) -> None:
    """Of a long list the first ten are named and the rest counted."""
    edit(model / INDEX, lambda index: index["weight_map"].update({f"ghost.{number}": SHARD for number in range(500)}))
    found = [entry for entry in verify(model).findings if entry.code == "index_differs"]

    assert 11 == len(found)
    assert "and 490 more tensors" in found[-1].message


def test_shards_of_any_name(model: Path) -> None:
    """The index alone says what the shards are called; shapes are checked all the same."""
    (model / SHARD).rename(model / "part-a.safetensors")
    edit(
        model / INDEX,
        lambda index: index["weight_map"].update(
            {name: "part-a.safetensors" for name, file in index["weight_map"].items() if file == SHARD}
        ),
    )
    assert set() == codes(verify(model))
    edit(model / "config.json", lambda config: config.update(vocab_size=34))

    assert {"shape_differs"} == {code for code, _ in codes(verify(model))}


def test_total_size(model: Path) -> None:
    """A wrong total is a warning: no loader needs it; one written as 12.0 is right."""
    total = json.loads((model / INDEX).read_text(encoding="utf-8"))["metadata"]["total_size"]
    edit(model / INDEX, lambda index: index["metadata"].update(total_size=float(total)))
    assert set() == codes(verify(model))
    edit(model / INDEX, lambda index: index["metadata"].update(total_size=total + 1))
    report = verify(model)

    assert {("total_size_differs", INDEX)} == codes(report)
    assert (Status.OK, Status.FAILED) == (report.status(), report.status(Severity.WARN))


@pytest.mark.parametrize("name", ["../x.safetensors", "/etc/passwd", "a\\b.safetensors", "C:x.safetensors", "..", ""])
def test_index_that_escapes(model: Path, name: str) -> None:
    """An index whose paths leave the folder is refused."""
    edit(model / INDEX, lambda index: index["weight_map"].update({"w": name}))
    report = verify(model)

    assert (Status.REFUSED, ("path_escapes", INDEX)) == (report.status(), next(iter(codes(report))))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"weight_map": 1}', '{"weight_map": {}, "metadata": {"total_size": "x"}}']
)
def test_index_that_cannot_be_read(model: Path, text: str) -> None:
    """An index that is no index fails as such."""
    (model / INDEX).write_text(text, encoding="utf-8")

    assert {("index_invalid", INDEX)} == codes(verify(model))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"hidden_size": 32}, "shape_differs"),
        ({"vocab_size": 34}, "shape_differs"),
        ({"num_hidden_layers": 3}, "tensor_missing"),
        ({"num_hidden_layers": 1}, "tensor_unexpected"),
        ({"num_key_value_heads": 4}, "shape_differs"),
        ({"architectures": ["Qwen2ForTokenClassification"]}, "tensor_missing"),
        ({"num_hidden_layers": "2"}, "config_invalid"),
        ({"num_hidden_layers": 10**9}, "config_invalid"),
        ({"num_attention_heads": 0}, "config_invalid"),
    ],
)
def test_config_that_does_not_fit(model: Path, change: dict[str, Any], expected: str) -> None:
    """A config.json of another model is found by names and shapes alone."""
    edit(model / "config.json", lambda config: config.update(change))
    found = {code for code, _ in codes(verify(model, level=Level.QUICK))}

    assert expected in found
    assert found <= {expected, "tensor_unexpected"}


def test_wrong_shape_is_named(model: Path) -> None:
    """The finding says the tensor, the shape promised and the shape found."""
    edit(model / "config.json", lambda config: config.update(vocab_size=34))
    found = {entry.tensor: entry.message for entry in verify(model).findings}

    assert "'lm_head.weight': config.json says [34, 16], the file [33, 16]" == found["lm_head.weight"]


@pytest.mark.parametrize(
    "change",
    [
        {"architectures": ["MambaForCausalLM"]},
        {"architectures": ["Qwen2MoeForCausalLM"]},
        {"architectures": []},
        {"architectures": ["Qwen2ForCausalLM", "Qwen3ForCausalLM"]},
        {"hidden_size": None},
        {"architectures": None},
        {"quantization_config": {"bits": 4}},
    ],
)
def test_unknown_shapes_are_no_pass_of_their_own(model: Path, change: dict[str, Any]) -> None:
    """Where shapes cannot be derived the report says so, and neither fails nor claims that they are right."""
    edit(model / "config.json", lambda config: config.update(change))
    report = verify(model)

    assert (set(), {"no_manifest", "shapes_not_checked"}) == (codes(report), notes(report))


def test_a_configuration_without_an_architecture(model: Path) -> None:
    """What it lacks is said."""
    edit(model / "config.json", lambda config: config.pop("architectures"))
    (said,) = (entry.message for entry in verify(model).findings if entry.code == "shapes_not_checked")

    assert said.endswith("config.json names no architecture")


def test_tied_head(make_model: WriteModel, model: Path, tmp_path: Path) -> None:
    """With tied embeddings the head may be there, if it is the embedding, or not; without them it must be."""
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    tied = make_model(tmp_path / "tied", {**config, "tie_word_embeddings": True})
    assert set() == codes(verify(tied))
    edit(model / "config.json", lambda document: document.update(tie_word_embeddings=True))
    assert {("tie_differs", ".")} == codes(verify(model))
    edit(tied / "config.json", lambda document: document.update(tie_word_embeddings=False))

    assert {("tensor_missing", ".")} == codes(verify(tied))


def test_missing_config_and_tokenizer(model: Path) -> None:
    """Without config.json a loader fails: a warning; without a tokenizer a server does: a note."""
    (model / "tokenizer.json").unlink()
    assert {"no_manifest", "no_tokenizer"} == notes(verify(model))
    (model / "config.json").unlink()

    assert {("config_missing", "config.json")} == codes(verify(model))


@pytest.mark.parametrize("text", ["", "{]", "[]", '{"a": 1, "a": 2}'])
def test_config_that_cannot_be_read(model: Path, text: str) -> None:
    """A broken config.json fails and is named."""
    (model / "config.json").write_text(text, encoding="utf-8")

    assert {("config_invalid", "config.json")} == codes(verify(model))


def replace_tensor(path: Path, name: str, array: np.ndarray[Any, Any]) -> None:
    save_file({**load_file(path), name: array}, path)


@pytest.mark.parametrize(
    ("dtype", "bits", "one", "wrong"),
    [
        ("F64", 64, 0x3FF0 << 48, [0x7FF0 << 48, 0xFFF0 << 48, 0x7FF8 << 48, (0xFFF0 << 48) + 1]),
        ("F32", 32, 0x3F80 << 16, [0x7F80 << 16, 0xFF80 << 16, 0x7FC0 << 16, (0xFF80 << 16) + 1]),
        ("F16", 16, 0x3C00, [0x7C00, 0xFC00, 0x7E00, 0xFC01]),
        ("BF16", 16, 0x3F80, [0x7F80, 0xFF80, 0x7FC0, 0xFF81]),
        ("F8_E5M2", 8, 0x3C, [0x7C, 0xFC, 0x7D, 0xFF]),
        ("F8_E4M3", 8, 0x38, [0x7F, 0xFF]),
    ],
)
def test_not_finite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, bits: int, one: int, wrong: list[int]
) -> None:
    """Inf and NaN of either sign are found in every type, anywhere in a large tensor, with their place."""
    monkeypatch.setattr(reading, "PIECE_BYTES", 4096)
    numbers = np.full((3, 40_001), one, dtype=f"<u{bits // 8}")
    for pattern in wrong:
        numbers[2, 12_345] = pattern
        header = {
            "w": {"dtype": dtype, "shape": list(numbers.shape), "data_offsets": [0, numbers.nbytes]},
            "a": {"dtype": "U8", "shape": [3], "data_offsets": [numbers.nbytes, numbers.nbytes + 3]},
        }
        text = json.dumps(header).encode()
        (tmp_path / "x.safetensors").write_bytes(
            len(text).to_bytes(8, "little") + text + numbers.tobytes() + b"\xff\xff\xff"
        )
        (found,) = (entry for entry in verify(tmp_path / "x.safetensors").findings if entry.severity is Severity.ERROR)

        assert ("not_finite", "w") == (found.code, found.tensor)
        assert "1 of 120,003 numbers are NaN or Inf, first at [2, 12345]" in found.message


def test_many_nan_are_cut_short(tmp_path: Path) -> None:
    """A model full of NaN does not give a finding a tensor."""
    save_file({f"w{number}": np.full((2, 2), np.nan, "<f4") for number in range(100)}, tmp_path / "x.safetensors")
    found = [entry for entry in verify(tmp_path / "x.safetensors").findings if entry.code == "not_finite"]

    assert 4 == len(found)
    assert "and 97 more tensors" in found[-1].message


def test_one_zero_weight_is_a_warning(model: Path) -> None:
    """A weight of zeros can be right, so it is said and does not fail; minus zero is zero."""
    path = model / SHARD
    replace_tensor(path, "model.layers.0.mlp.gate_proj.weight", np.full((24, 16), -0.0, "<f4"))
    report = verify(model)

    assert {("all_zero", SHARD)} == codes(report)
    assert "model.layers.0.mlp.gate_proj.weight" in {entry.tensor for entry in report.findings}
    assert Status.OK is report.status()


def test_zero_bias_is_nothing(model: Path) -> None:
    """Biases begin as zeros; that is no finding."""
    for name in (SHARD, "model-00002-of-00002.safetensors"):
        arrays = {key: np.zeros_like(a) if key.endswith("bias") else a for key, a in load_file(model / name).items()}
        save_file(arrays, model / name)

    assert set() == codes(verify(model))


def test_model_of_zeros(model: Path) -> None:
    """Nothing but zeros is an error: the trace of a writer that copied nothing."""
    for name in (SHARD, "model-00002-of-00002.safetensors"):
        save_file({key: np.zeros_like(array) for key, array in load_file(model / name).items()}, model / name)
    report = verify(model)

    assert ("all_zero_model", ".") in codes(report)
    assert Status.FAILED is report.status()


def test_partitioned_weights(model: Path) -> None:
    """A weight without elements was saved while it was spread over ranks."""
    replace_tensor(model / SHARD, "model.layers.0.mlp.gate_proj.weight", np.zeros((0,), "<f4"))

    assert ("tensor_empty", SHARD) in codes(verify(model, level=Level.QUICK))


def test_hostile_weights_are_refused(model: Path, tmp_path: Path) -> None:
    """Pickled weights that would run code are refused, named, and not run; what nobody calls is only cut off."""
    for path in [*model.glob("*.safetensors"), model / INDEX]:
        path.unlink()
    hostile = b"\x80\x04cos\nsystem\nX\x0b\x00\x00\x00touch alarm\x85R."
    (model / "pytorch_model.bin").write_bytes(hostile)
    report = verify(model)

    assert (Status.REFUSED, {("pickle_calls", "pytorch_model.bin")}) == (report.status(), codes(report))
    assert "os.system" in report.findings[0].message
    (model / "pytorch_model.bin").write_bytes(b"\x80\x04cos\nsystem\n")
    assert {("torch_invalid", "pytorch_model.bin")} == codes(verify(model))


def test_code_in_the_folder(model: Path) -> None:
    """Python files are mentioned and not run."""
    (model / "modeling_x.py").write_text("raise SystemExit(7)", encoding="utf-8")

    assert "custom_code" in notes(verify(model))


def test_manifest_of_another_program(model: Path) -> None:
    """A manifest.json that is not ours does not make a checkpoint."""
    (model / "manifest.json").write_text('{"name": "web app"}', encoding="utf-8")

    assert {"no_manifest"} == notes(verify(model))


def test_cache_of_the_hub(model: Path, tmp_path: Path) -> None:
    """The links of a Hugging Face cache are followed into its own blobs, and no further."""
    repository = tmp_path / "models--org--name"
    snapshot, blobs = repository / "snapshots" / "abc", repository / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for path in model.iterdir():
        path.rename(blobs / path.name)
        (snapshot / path.name).symlink_to(Path("../../blobs") / path.name)
    assert (Status.OK, set()) == (verify(snapshot).status(), codes(verify(snapshot)))
    (snapshot / "config.json").unlink()
    (snapshot / "config.json").symlink_to("/etc/hostname")

    assert Status.REFUSED is verify(snapshot).status()


def test_large_file_in_many_pieces(tmp_path: Path) -> None:
    """Pieces that end inside tensors, odd sizes and tiny tensors change nothing of what is found."""
    random = np.random.default_rng(1)
    arrays = {f"t{number:02d}": random.integers(1, 99, size, "|u1") for number, size in enumerate([9_000_001, 1, 0, 7])}
    arrays["last"] = np.append(np.ones(5_000_000, "<f4"), np.float32(np.nan))
    save_file(arrays, tmp_path / "x.safetensors")
    (found,) = (entry for entry in verify(tmp_path / "x.safetensors").findings if entry.code == "not_finite")

    assert "1 of 5,000,001 numbers are NaN or Inf, first at [5000000]" in found.message


@pytest.mark.parametrize("name", ["iter{}", "global_step_{}", "checkpoint-{}"])
def test_steps_with_policy_and_critic_of_others(name: str, model: Path, tmp_path: Path) -> None:
    """A run of Open-Reasoner-Zero or verl, roles in its steps, is a run: no manifest of ours is missing in it."""
    run = tmp_path / "run"
    for step in (5, 10):
        for role in ("policy", "critic"):
            shutil.copytree(model, run / name.format(step) / role)
    newest = run / name.format(10)
    report = verify(run)
    assert (Status.OK, "run", str(newest)) == (report.status(), report.kind, report.newest_good)
    assert "uncommitted" not in {entry.code for entry in report.findings}
    assert (Status.OK, "folder") == (verify(newest).status(), verify(newest).kind)
    with pytest.raises(SeveralError, match="2 steps of a run") as caught:
        open_source(run)
    assert str(newest / "policy") in caught.value.remedy
