"""What a copy and a merge leave that were cut off: who looks for their result hears so, and of no other folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

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

OPTIONS = Options(max_shard_bytes=4000, jobs=1)


@pytest.fixture
def cut_off(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """The function that copies or merges the model, to `NAME`, until the disk fails at the second file."""
    begun: list[object] = []

    def once(real: Callable[..., None]) -> Callable[..., None]:
        def failing(*arguments: object) -> None:
            begun.append(arguments)
            if len(begun) > 1:
                raise OSError(5, "Input/output error")
            real(*arguments)

        return failing

    def run(kind: str) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(local, "_write", once(local._write))
            patch.setattr(Journal, "add", once(Journal.add))
            patch.chdir(tmp_path)
            if kind == "copy":
                copy("model", str(tmp_path / NAME))
            elif kind == "convert":
                convert_checkpoint(open_source(Path("model")), tmp_path / NAME, Layout.HF, OPTIONS)
            else:
                merge(open_source(Path("model")), tmp_path / NAME, OPTIONS)

    return run


@pytest.mark.parametrize(
    ("kind", "noun", "options"),
    [("copy", "copy", []), ("merge", "merge", []), ("convert", "conversion", ["--to", "hf"])],
)
def test_what_was_cut_off_is_told(
    model: Path,
    tmp_path: Path,
    cut_off: Callable[[str], None],
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
