"""Folders made to harm whoever looks at them: never a pass, a wait or a traceback, nothing outside touched."""

from __future__ import annotations

import json
import os
import re
import signal
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from orz_ckpt.findings import Level, Report
from orz_ckpt.verify import verify
from orz_cli.findings import Severity, Status
from orz_cli.main import main

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.component, pytest.mark.skipif(os.name == "nt", reason="needs POSIX")]

SECONDS = 60
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@pytest.fixture(autouse=True)
def _no_waiting() -> Iterator[None]:
    """End a test that waits, for a writer of a pipe or for the end of a device."""

    def late(*_: object) -> None:
        raise AssertionError(f"still waiting after {SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def errors(report: Report) -> set[tuple[str, str]]:
    """Return code and file of every error."""
    return {(entry.code, Path(entry.path).name) for entry in report.findings if entry.severity is Severity.ERROR}


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """Run a command; return its exit code and all that it said, which holds no traceback and nothing for a terminal."""
    code = main(["ckpt", *map(str, arguments)])
    said = "".join(capsys.readouterr())
    assert "Traceback" not in said
    assert not CONTROL.search(said), ascii(said)
    return code, " ".join(said.split())


# --- things that are no files ---------------------------------------------------------------------------

NAMES = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "x.pt",
    "x.ckpt",
    ".metadata",
    "__0_0.distcp",
    "adapter_config.json",
    "model_world_size_2_rank_0.pt",
    "mp_rank_00_model_states.pt",
    "latest",
]


@pytest.mark.parametrize("name", NAMES)
def test_pipes(name: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A pipe under any name that is looked for is found; no command waits for it, and none takes it for a file."""
    (model / name).unlink(missing_ok=True)
    os.mkfifo(model / name)
    code, said = run(capsys, "verify", model)

    assert (1, True) == (code, "neither a plain file nor a folder" in said)
    assert 0 != run(capsys, "merge", model, tmp_path / "out")[0]
    assert not (tmp_path / "out").exists()
    assert 0 != run(capsys, "manifest", model)[0]
    run(capsys, "inspect", model)
    if name != "model.safetensors":
        assert 0 != run(capsys, "diff", model, model)[0]


@pytest.mark.parametrize("name", ["manifest.json", "policy/config.json", "policy/model.safetensors.index.json"])
def test_pipes_in_a_checkpoint(name: str, step: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In a committed checkpoint, too."""
    (step / name).unlink()
    os.mkfifo(step / name)

    assert 0 != run(capsys, "verify", step)[0]
    run(capsys, "inspect", step)


def test_device_behind_a_link(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A link to a device without end leads out of the folder, and is not read."""
    (model / "config.json").unlink()
    (model / "config.json").symlink_to("/dev/zero")
    code, said = run(capsys, "verify", model)

    assert (4, True) == (code, "lies outside" in said)


# --- names ----------------------------------------------------------------------------------------------


def test_control_characters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Names of files, tensors and keys are shown without what a terminal would obey."""
    evil = "\x1b]0;owned\x07\x1b[2J\r\u202e"
    folder = tmp_path / f"model{evil}"
    folder.mkdir()
    tensors = {f"w{evil}": np.full((2, 2), np.nan, np.float32), "v": np.zeros((2, 2), np.float32)}
    save_file(tensors, folder / f"a{evil}.safetensors", metadata={f"k{evil}": evil})
    torch.save({f"w{evil}": torch.full((2, 2), float("nan"))}, folder / f"b{evil}.pt")
    (folder / "config.json").write_text(json.dumps({"architectures": [evil], "torch_dtype": evil}), encoding="utf-8")
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {f"w{evil}": evil}, "metadata": {"total_size": evil}}), encoding="utf-8"
    )
    for format_ in ("text", "json", "jsonl", "junit", "sarif", "github"):
        assert 0 != main(["ckpt", "verify", str(folder), "--format", format_]), format_
        assert not CONTROL.search("".join(capsys.readouterr()).replace("\t", "")), format_
    for command in (["inspect"], ["merge", tmp_path / "out"], ["diff", folder]):
        run(capsys, command[0], folder, *command[1:])


def test_tensors_named_like_paths(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A merge writes below its own folder, whatever tensors are called."""
    names = ["../../escaped", "/tmp/escaped", "a/../../b", "C:\\escaped", "a\0b"]  # noqa: S108  names, not paths
    (tmp_path / "in").mkdir()
    save_file({name: np.ones(3, np.float32) for name in names}, tmp_path / "in" / "model.safetensors")
    run(capsys, "merge", tmp_path / "in", tmp_path / "place" / "out")

    assert {"in", "place"} == {path.name for path in tmp_path.iterdir()}
    assert {"out"} == {path.name for path in (tmp_path / "place").iterdir()}
    got = {name for file in (tmp_path / "place" / "out").glob("*.safetensors") for name in load_file(file)}
    assert set(names) == got


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ({"a": {"b": 1.0}, "a.b": float("nan")}, "'a.b'"),
        ({"a.b": float("nan"), "a": {"b": 1.0}}, "'a.b'"),
        ({"a": {"b": float("nan")}, "a.b": 1.0}, "'a.b'"),
        ({1: 1.0, "1": float("nan")}, "'1'"),
    ],
)
def test_hidden_tensors(value: dict[Any, Any], names: str, tmp_path: Path) -> None:
    """Two tensors of one dotted name are an error, and the numbers of both are looked at."""

    def filled(value: Any) -> Any:
        return {k: filled(v) for k, v in value.items()} if isinstance(value, dict) else torch.full((2, 2), value)

    torch.save(filled(value), tmp_path / "x.pt")
    report = verify(tmp_path / "x.pt")

    assert {("names_collide", "x.pt"), ("not_finite", "x.pt")} == errors(report)
    assert all(names in entry.message for entry in report.findings if entry.code == "names_collide")
    assert {("names_collide", "x.pt")} == errors(verify(tmp_path / "x.pt", level=Level.QUICK))


def test_one_tensor_under_two_keys(tmp_path: Path) -> None:
    """The same tensor twice hides nothing."""
    shared = torch.ones(2, 2)
    torch.save({"a": {"b": shared}, "a.b": shared}, tmp_path / "x.pt")

    assert set() == errors(verify(tmp_path / "x.pt"))


def test_many_hidden_tensors(tmp_path: Path) -> None:
    """A file of nothing else is not told of name by name."""
    one = torch.ones(1)
    torch.save({str(n): one for n in range(50)} | dict.fromkeys(range(50), one + 1), tmp_path / "x.pt")
    told = [entry.message for entry in verify(tmp_path / "x.pt").findings if entry.code == "names_collide"]

    assert (11, "and 40 more names likewise") == (len(told), told[-1])


# --- paths ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["../outside.safetensors", "/etc/passwd", "C:\\x", "a/../../x", "..", "x\0y"])
@pytest.mark.parametrize("index", ["model.safetensors.index.json", "pytorch_model.bin.index.json"])
def test_index_that_leads_out(
    index: str, target: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A shard outside of the folder is refused by everything that would read it."""
    save_file({"w": np.ones((2, 2), np.float32)}, model.parent / "outside.safetensors")
    for path in model.glob("model*"):
        path.unlink()
    (model / index).write_text(json.dumps({"weight_map": {"w": target}}), encoding="utf-8")

    assert 4 == run(capsys, "verify", model)[0]
    assert 0 != run(capsys, "merge", model, tmp_path / "out")[0]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["model-00001-of-00002.safetensors", "config.json", "tokenizer.json"])
def test_links_that_lead_out(name: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A link to a file outside is refused, and what is there is neither shown nor copied."""
    secret = tmp_path / "secret"
    secret.write_bytes((model / name).read_bytes())
    (model / name).unlink()
    (model / name).symlink_to(secret)

    assert 4 == run(capsys, "verify", model)[0]
    assert 0 != run(capsys, "merge", model, tmp_path / "out")[0]
    assert not (tmp_path / "out").exists()


# --- bombs ----------------------------------------------------------------------------------------------

JSON_BOMBS = {
    "lists": b"[" + b"[]," * 5_000_000 + b"0]",
    "objects": b"[" + b"{}," * 5_000_000 + b"0]",
    "depth": b"[" * 5_000_000,
    "number": b'{"a":' + b"9" * 5_000_000 + b"}",
    "keys": b"{" + b'"a":0,' * 2_500_000 + b'"a":0}',
}


@pytest.mark.parametrize("kind", JSON_BOMBS)
def test_json_bombs(kind: str, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A configuration, an index and a header of 15 MB of brackets, digits or one key: a finding for each."""
    bomb = JSON_BOMBS[kind]
    (model / "config.json").write_bytes(bomb)
    (model / "model.safetensors.index.json").write_bytes(bomb)
    (model / "model-00001-of-00002.safetensors").write_bytes(struct.pack("<Q", len(bomb)) + bomb)
    report = verify(model)

    assert Status.FAILED is report.status()
    assert {"config_invalid", "index_invalid", "header_invalid"} <= {code for code, _ in errors(report)}
    assert all(len(entry.message) < 500 for entry in report.findings)
    assert 1 == run(capsys, "inspect", model)[0]


def test_sparse_bombs(tmp_path: Path) -> None:
    """A file of an exabyte that is nearly all hole is told by its size, and not read."""
    (tmp_path / "model.safetensors").write_bytes(b"\2\0\0\0\0\0\0\0{}")
    os.truncate(tmp_path / "model.safetensors", 2**43)
    torch.save({"w": torch.ones(2)}, tmp_path / "x.pt")
    os.truncate(tmp_path / "x.pt", 2**43)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).touch()
        os.truncate(tmp_path / name, 2**43)
    report = verify(tmp_path)

    assert Status.FAILED is report.status()
    assert {("header_invalid", "model.safetensors"), ("torch_invalid", "x.pt")} <= errors(report)


def test_expanded_tensors(tmp_path: Path) -> None:
    """A tensor of stride 0 is as large as it says and has one number: more of it than a file could hold is refused."""
    torch.save({"w": torch.ones(1).expand(2**40)}, tmp_path / "x.pt")
    assert {("torch_invalid", "x.pt")} == errors(verify(tmp_path / "x.pt"))
    torch.save({"w": torch.full((1,), float("nan")).expand(1000, 1000)}, tmp_path / "x.pt")

    assert {("not_finite", "x.pt")} == errors(verify(tmp_path / "x.pt"))


@pytest.mark.parametrize("text", ['{"a":1,"a":1}', '{"weight_map":{"w":"a","w":"b"}}'])
def test_doubled_keys(text: str, model: Path) -> None:
    """A key that stands twice, of which two readers see different values, is an error in each JSON file."""
    for name in ("config.json", "generation_config.json", "model.safetensors.index.json"):
        (model / name).write_text(text, encoding="utf-8")

    found = errors(verify(model))
    assert {("config_invalid", "config.json"), ("index_invalid", "model.safetensors.index.json")} <= found
