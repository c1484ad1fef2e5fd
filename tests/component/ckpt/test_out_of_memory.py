"""Memory that is not there: what was being read is named, nothing is concluded, and no traceback is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from orz_ckpt.cluster.fleet import Here, Trouble
from orz_ckpt.errors import OutOfMemoryError
from orz_ckpt.memory import memory_for
from orz_cli.main import main

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.component

MORE_THAN_THERE_IS = 1 << 62


def out_of_memory(*_: object, **__: object) -> None:
    raise MemoryError


def test_a_file_that_was_being_read_is_named(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 3, the file, and no traceback; the buffer that is asked for is one that no machine has."""
    monkeypatch.setattr("orz_ckpt.disk.reading.PIECE_BYTES", MORE_THAN_THERE_IS)

    assert 3 == main(["ckpt", "verify", str(model)])
    stderr = capsys.readouterr().err
    assert f"error: {model}/" in stderr
    assert "there is not enough memory to read it" in stderr
    assert "Traceback" not in stderr
    assert "--max-memory" not in stderr


def test_merge_names_the_file_and_its_options(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What bounds the memory of a merge is part of the remedy; nothing appears at OUT."""
    monkeypatch.setattr("orz_ckpt.disk.uncached.aligned", out_of_memory)

    assert 3 == main(["ckpt", "merge", str(model), str(tmp_path / "out"), "--max-memory", "80MiB"])
    stderr = capsys.readouterr().err
    assert f"error: {model}/model-0" in stderr
    assert "there is not enough memory to read it" in stderr
    assert "-> give --jobs 1 and less than --max-memory 80MiB; or" in stderr
    assert not (tmp_path / "out").exists()


def test_what_no_reader_names_is_told_by_the_arguments(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Between two files the command and its paths are what can be said."""
    monkeypatch.setattr("orz_ckpt.merge.copy.aligned", out_of_memory)

    assert 3 == main(["ckpt", "merge", str(model), str(tmp_path / "out")])
    stderr = capsys.readouterr().err
    assert f"error: orz ckpt merge {model} {tmp_path / 'out'}: there is not enough memory\n" in stderr
    assert "give --jobs 1 and less than --max-memory 64MiB" in stderr


def test_a_node_says_so(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A question that a node has no memory for fails there, and is no answer."""
    monkeypatch.setattr("orz_ckpt.node.files.digest_of", out_of_memory)
    fleet = Here()
    (node,) = fleet.nodes
    said = fleet.ask("digests", {node.name: {"paths": [str(model / "config.json")]}})[node.name]

    assert Trouble.FAILED == said.trouble
    assert "this node has not enough memory to answer 'digests'" == said.message


def test_the_innermost_block_is_named() -> None:
    """A file says more than the folder around it; other errors pass as they are."""
    expected = r"^inner: there is not enough memory to read it: 9 GiB\n"
    with pytest.raises(OutOfMemoryError, match=expected), memory_for("outer"), memory_for("inner"):
        raise MemoryError("9 GiB")
    with pytest.raises(KeyError), memory_for("outer"):
        raise KeyError
