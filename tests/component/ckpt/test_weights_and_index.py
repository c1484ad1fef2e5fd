"""Shards, their index and the single file beside them: whoever reads weights holds them against each other."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from orz_cli.main import main

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

torch = pytest.importorskip("torch")  # orz-ckpt works without it; it writes what is read here
safetensors = pytest.importorskip("safetensors.torch")

pytestmark = pytest.mark.component

ONE, TWO, SINGLE = "{}-00001-of-00002", "{}-00002-of-00002", "{}"
BOTH_IN_ONE, EACH = {"a": ONE, "b": ONE}, {"a": ONE, "b": TWO}

CASES: dict[str, tuple[Mapping[str, str], Mapping[str, str] | None, set[tuple[str, str]]]] = {
    # name -> the tensors of each file, what the index says, code and place of each error
    "elsewhere": ({ONE: "a", TWO: "b"}, BOTH_IN_ONE, {("index_differs", "index"), ("shard_orphan", TWO)}),
    "not named": ({ONE: "a", TWO: "bc"}, EACH, {("index_differs", "index")}),
    "held twice": ({ONE: "a", TWO: "ab"}, EACH, {("index_differs", "index")}),
    "two saves": ({SINGLE: "ab", ONE: "a", TWO: "b"}, None, {("index_invalid", "folder")}),
    "single and orphan": ({SINGLE: "ab", ONE: "a"}, None, {("shard_orphan", ONE)}),
    "index and single": ({SINGLE: "ab", ONE: "a", TWO: "b"}, EACH, {("shard_orphan", SINGLE)}),
    "index and orphan": ({ONE: "ab", TWO: "b"}, BOTH_IN_ONE, {("shard_orphan", TWO)}),
    "no index": ({ONE: "a", TWO: "b"}, None, {("index_invalid", "folder")}),
    "shard missing": ({ONE: "a"}, EACH, {("file_missing", TWO)}),
}
NAMES = {"torch": ("pytorch_model", ".bin"), "safetensors": ("model", ".safetensors")}


def write(folder: Path, form: str, files: Mapping[str, str], index: Mapping[str, str] | None) -> None:
    """Write tensors named by single letters, each file with numbers of its own."""
    folder.mkdir()
    stem, suffix = NAMES[form]
    for number, (name, tensors) in enumerate(files.items()):
        state = {tensor: torch.full((3,), float(number)) for tensor in tensors}
        save = torch.save if form == "torch" else safetensors.save_file
        save(state, folder / f"{name.format(stem)}{suffix}")
    if index is not None:
        weight_map = {tensor: f"{name.format(stem)}{suffix}" for tensor, name in index.items()}
        text = json.dumps({"metadata": {}, "weight_map": weight_map})
        (folder / f"{stem}{suffix}.index.json").write_text(text, encoding="utf-8")


def errors(text: str) -> list[tuple[str, str, str]]:
    """Return code, path and message of each error."""
    found: Sequence[dict[str, Any]] = json.loads(text)["findings"]
    return [(entry["code"], entry["path"], entry["message"]) for entry in found if entry["severity"] == "error"]


@pytest.mark.parametrize("form", NAMES)
@pytest.mark.parametrize("case", CASES)
def test_who_reads_weights_says_what_verify_says(
    case: str, form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 1 with the same errors from all, in both formats, and nothing is written; `diff` compares with nothing."""
    files, index, expected = CASES[case]
    folder, out, whole = tmp_path / "model", tmp_path / "out", tmp_path / "whole"
    write(folder, form, files, index)
    stem, suffix = NAMES[form]
    places = {"folder": folder, "index": folder / f"{stem}{suffix}.index.json"}
    wanted = {(code, str(places.get(at, folder / f"{at.format(stem)}{suffix}"))) for code, at in expected}

    assert 1 == main(["ckpt", "verify", str(folder), "--json"])
    said = errors(capsys.readouterr().out)
    assert wanted == {(code, path) for code, path, _ in said}
    for command in (f"merge {folder} {out}", f"convert {folder} {out} --to hf", f"inspect {folder}"):
        assert 1 == main(["ckpt", *command.split(), "--json"])
        assert said == errors(capsys.readouterr().out)
        assert not out.exists()

    write(whole, form, {SINGLE: "ab"}, None)
    assert 3 == main(["ckpt", "diff", str(folder), str(whole)])
    assert said[0][2] in capsys.readouterr().err


@pytest.mark.parametrize("form", NAMES)
def test_what_belongs_together_is_taken(form: str, tmp_path: Path) -> None:
    """Shards as their index says, each tensor from its own."""
    write(tmp_path / "model", form, {ONE: "a", TWO: "b"}, EACH)
    assert 0 == main(["ckpt", "merge", str(tmp_path / "model"), str(tmp_path / "out")])
    held = safetensors.load_file(tmp_path / "out" / "model.safetensors")
    assert {"a": [0.0] * 3, "b": [1.0] * 3} == {name: tensor.tolist() for name, tensor in held.items()}
