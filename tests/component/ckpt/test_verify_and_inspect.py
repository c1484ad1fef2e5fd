"""`verify` and `inspect` give the same exit code for what neither can take for weights."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest
from safetensors.numpy import save_file

from orz_cli.main import main

if TYPE_CHECKING:
    from pathlib import Path

torch = pytest.importorskip("torch")  # orz-ckpt works without it; it writes what is read here

pytestmark = pytest.mark.component


def judged(path: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, tuple[int, str]]:
    """Return what each command says of a file: its exit code, and the codes of the errors."""
    found = {}
    for command in ("verify", "inspect"):
        code = main(["ckpt", command, str(path), "--json"])
        findings = json.loads(capsys.readouterr().out)["findings"]
        found[command] = (code, ", ".join(entry["code"] for entry in findings if entry["severity"] == "error"))
    return found


def test_tensors_that_are_not_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A sparse tensor may be sound: exit 3."""
    torch.save({"w": torch.ones(2, 2).to_sparse()}, tmp_path / "x.pt")
    found = judged(tmp_path / "x.pt", capsys)

    assert {"verify": (3, "weights_not_read"), "inspect": (3, "not_judged")} == found


def test_no_tensor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file of weights without a tensor is none: exit 1."""
    save_file({}, tmp_path / "model.safetensors")
    (tmp_path / "folder").mkdir()
    save_file({}, tmp_path / "folder" / "model.safetensors")
    (tmp_path / "folder" / "config.json").write_text("{}", encoding="utf-8")
    for path in (tmp_path / "model.safetensors", tmp_path / "folder"):
        assert dict.fromkeys(("verify", "inspect"), (1, "no_weights")) == judged(path, capsys), path


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="other systems have no named pipes")
def test_a_pipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is no file is told as such: exit 1, as where it lies in a folder."""
    os.mkfifo(tmp_path / "x.safetensors")

    assert dict.fromkeys(("verify", "inspect"), (1, "not_a_file")) == judged(tmp_path / "x.safetensors", capsys)
