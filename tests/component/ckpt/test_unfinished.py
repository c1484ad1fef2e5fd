"""What a copy and a merge leave that were cut off: who looks for their result hears so, and of no other folder."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from orz_ckpt.convert import Layout, convert_checkpoint
from orz_ckpt.copy import local
from orz_ckpt.copy.run import copy
from orz_ckpt.copy.tree import open_tree
from orz_ckpt.errors import CkptError
from orz_ckpt.merge.journal import Journal
from orz_ckpt.merge.run import Options, merge
from orz_ckpt.sources import open_source
from orz_ckpt.unfinished import begun_at, copying, note_begun
from orz_cli.main import main

pytestmark = pytest.mark.component

NAME = "a-checkpoint-with-a-long-name"
"""So that the folder in which it is made has a name much like it."""

OPTIONS = Options(dtype="F16", max_shard_bytes=4000, jobs=1)


@pytest.fixture
def cut_off(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """The function that copies or merges the model, to `NAME`, until the disk fails at the second file.

    Where it is given the words of a command, that is what it runs.
    """
    begun: list[object] = []

    def once(real: Callable[..., None]) -> Callable[..., None]:
        def failing(*arguments: object) -> None:
            begun.append(arguments)
            if len(begun) > 1:
                raise OSError(5, "Input/output error")
            real(*arguments)

        return failing

    def run(kind: str, *words: str) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(local, "_write", once(local._write))
            patch.setattr(Journal, "add", once(Journal.add))
            patch.chdir(tmp_path)
            if words:
                assert 1 == main(["ckpt", kind, *words])
            elif kind == "copy":
                copy("model", str(tmp_path / NAME))
            elif kind == "convert":
                convert_checkpoint(open_source(Path("model")), tmp_path / NAME, Layout.HF, OPTIONS)
            else:
                merge(open_source(Path("model")), tmp_path / NAME, OPTIONS)

    return run


@pytest.mark.parametrize(
    ("kind", "noun", "options"),
    [
        ("copy", "copy", []),
        ("merge", "merge", ["--dtype", "float16", "--max-shard-size", "4000", "--jobs", "1"]),
        ("convert", "conversion", ["--to", "hf", "--dtype", "float16"]),
    ],
)
def test_what_was_cut_off_is_told(
    model: Path,
    tmp_path: Path,
    cut_off: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
    kind: str,
    noun: str,
    options: list[str],
) -> None:
    """It is not there yet, and its command goes on; the folder in flight is not proposed as what was meant."""
    with pytest.raises((CkptError, OSError), match="Input/output error"):
        cut_off(kind)
    assert 2 == main(["ckpt", "verify", str(tmp_path / NAME)])
    said = " ".join(capsys.readouterr().err.split())
    assert f"{NAME} does not exist yet: a {noun} to it goes on, or was cut off" in said
    words = [kind, str(model), str(tmp_path / NAME), *options]
    assert said.endswith(f": orz ckpt {' '.join(words)}")
    assert ("with the options that it had" in said) == (kind != "copy")
    assert "did you mean" not in said
    assert 0 == main(["ckpt", *words])
    assert 0 == main(["ckpt", "verify", str(tmp_path / NAME)])


@pytest.fixture
def adapter(model: Path, tmp_path: Path) -> str:
    """The name of an adapter of the model, in `tmp_path`, that states no alpha."""
    name = "an adapter"
    (tmp_path / name).mkdir()
    config = {"peft_type": "LORA", "r": 1}
    (tmp_path / name / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    name_of, weight = next(entry for entry in open_source(model).tensors.items() if entry[0].endswith("q_proj.weight"))
    stem = f"base_model.model.{name_of.removesuffix('.weight')}"
    rows, columns = weight.shape
    factors = {
        f"{stem}.lora_A.weight": np.ones((1, columns), "<f4"),
        f"{stem}.lora_B.weight": np.ones((rows, 1), "<f4"),
    }
    save_file(factors, tmp_path / name / "adapter_model.safetensors")
    return name


def test_the_command_that_is_told_goes_on(
    model: Path, adapter: str, tmp_path: Path, cut_off: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    """It has all options, from any folder: what was finished stays, and the weights are those that were asked for."""
    options = ["--dtype", "float16", "--max-shard-size", "4kB", "--config", "model", "--lora", adapter]
    options += ["--lora-alpha", "0.5", "--jobs", "2", "--max-memory", "48MiB", "--inert", "a.B"]
    cut_off("merge", "model", NAME, *options)
    capsys.readouterr()
    assert 2 == main(["ckpt", "verify", str(tmp_path / NAME)])
    _, told = capsys.readouterr().err.strip().rsplit(": orz ", 1)
    words = shlex.split(told)
    assert [str(model), str(tmp_path / NAME)] == words[2:4]
    assert 0 == main([*words, "--json"])
    assert 0 < json.loads(capsys.readouterr().out)["kept"]


def test_what_was_noted_is_one_command(tmp_path: Path) -> None:
    """Whatever a file says that lies there; where it says nothing, or an address has a secret, the word is SRC."""
    folder = copying(tmp_path / "out")
    folder.mkdir()
    for source, word in (("x; rm -rf ~", "'x; rm -rf ~'"), ("", "SRC")):
        note_begun(folder, source, kind="copy; id", options=["$(id)"])
        _, remedy = begun_at(tmp_path / "out") or ("", "")
        assert f"give its command again: orz ckpt copy {word} {tmp_path / 'out'} '$(id)'" == remedy
    (folder / "asked.json").write_text("[")
    _, remedy = begun_at(tmp_path / "out") or ("", "")
    assert f"give its command again: orz ckpt copy SRC {tmp_path / 'out'}" == remedy
    assert "" == open_tree("memory://key:hunter2@bucket/x").spelled


def test_a_folder_with_nothing_but_a_copy_that_was_cut_off(
    cut_off: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Around a copy that was cut off no other reason is given for the weights that are missing."""
    (tmp_path / "around").mkdir()
    cut_off("copy", "model", f"around/{NAME}")
    capsys.readouterr()

    assert 3 == main(["ckpt", "verify", str(tmp_path / "around")])
    said = " ".join(capsys.readouterr().out.split())
    assert f"{NAME} is not there yet: a copy to it goes on, or was cut off" in said
    assert f"orz ckpt copy {tmp_path / 'model'} {tmp_path / 'around' / NAME}" in said


def test_a_merge_that_was_cut_off_is_no_save(
    cut_off: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What every command says of its folder is to merge again, and never to save the model again."""
    cut_off("merge", "model", NAME, "--max-shard-size", "4000")
    capsys.readouterr()

    assert 1 == main(["ckpt", "inspect", str(tmp_path / f"{NAME}.tmp-merge")])
    said = capsys.readouterr().out
    assert "run the same `orz ckpt merge` again" in said
    assert "save the model again" not in said
