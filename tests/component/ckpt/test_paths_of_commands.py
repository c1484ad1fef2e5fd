"""What a command is given as a path: a URL, nothing at all, a file, a folder that looks like no checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest

from orz_cli.main import main

pytestmark = pytest.mark.component

URL = "s3://user:secret@bucket/run"


@pytest.mark.parametrize(
    "command",
    [
        ("inspect", "URL"),
        ("verify", "URL"),
        ("verify", "model", "--against", "URL"),
        ("verify", "model", "URL"),
        ("manifest", "URL"),
        ("merge", "model", "URL"),
        ("merge", "URL", "out"),
        ("merge", "model", "out", "--config", "URL"),
        ("merge", "model", "out", "--lora", "URL"),
        ("convert", "model", "URL", "--to", "hf"),
        ("diff", "model", "URL"),
        ("diff", "model", "model", "--plot", "URL"),
        ("prune", "URL", "--keep-last", "1"),
        ("preflight", "URL"),
        ("locate", "URL"),
        ("collect", "URL", "--to", "out"),
    ],
)
@pytest.mark.parametrize("given", [URL, ""])
def test_no_path_of_this_machine(
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: tuple[str, ...],
    given: str,
) -> None:
    """A URL is no folder of that name below this one, and nothing is not the current folder: exit 2, nothing made."""
    monkeypatch.chdir(tmp_path)
    before = sorted(entry.name for entry in tmp_path.iterdir())
    code = main(["ckpt", *(given if word == "URL" else word for word in command)])
    said = capsys.readouterr()

    assert (2, "", before) == (code, said.out, sorted(entry.name for entry in tmp_path.iterdir()))
    assert model.is_dir()
    assert ("orz ckpt copy" if given else "a path is empty") in said.err
    assert "secret" not in said.err


def test_a_file_url_is_a_path(model: Path, tmp_path: Path) -> None:
    """file:// names a folder of this machine."""
    assert 0 == main(["ckpt", "merge", f"file://{model}", f"file://{tmp_path}/out"])
    assert (tmp_path / "out" / "model.safetensors").is_file()
