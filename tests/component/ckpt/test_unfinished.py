"""What a copy and a merge leave that were cut off: who looks for their result hears so, and of no other folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orz_ckpt.copy import local
from orz_ckpt.copy.run import copy
from orz_ckpt.errors import CkptError
from orz_ckpt.merge.journal import Journal
from orz_ckpt.merge.run import Options, merge
from orz_ckpt.sources import open_source
from orz_cli.main import main

pytestmark = pytest.mark.component

NAME = "a-checkpoint-with-a-long-name"
"""So that the folder in which it is made has a name much like it."""


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
            if kind == "copy":
                copy(str(model), str(tmp_path / NAME))
            else:
                merge(open_source(model), tmp_path / NAME, Options(max_shard_bytes=4000, jobs=1))

    return run


@pytest.mark.parametrize("kind", ["copy", "merge"])
def test_what_was_cut_off_is_told(
    model: Path, tmp_path: Path, cut_off: Callable[[str], None], capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    """It is not there yet, and its command goes on; the folder in flight is not proposed as what was meant."""
    with pytest.raises((CkptError, OSError), match="Input/output error"):
        cut_off(kind)
    assert 2 == main(["ckpt", "verify", str(tmp_path / NAME)])
    said = " ".join(capsys.readouterr().err.split())
    assert f"{NAME} does not exist yet: a {kind} to it goes on, or was cut off" in said
    assert f"orz ckpt {kind} SRC {tmp_path / NAME}" in said
    assert "did you mean" not in said
    assert 0 == main(["ckpt", kind, str(model), str(tmp_path / NAME)])
    assert 0 == main(["ckpt", "verify", str(tmp_path / NAME)])
