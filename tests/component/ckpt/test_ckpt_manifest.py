"""`orz ckpt manifest`: what it writes for a foreign folder, what that is good for, and what it refuses."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from blake3 import blake3

from orz_ckpt.findings import Level
from orz_ckpt.manifest import load
from orz_ckpt.sources import open_source
from orz_ckpt.verify import verify
from orz_cli.findings import Status
from orz_cli.main import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

pytestmark = pytest.mark.component

SHARD = "model-00001-of-00002.safetensors"


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def test_what_is_written(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every file with its blake3 digest, every tensor with its own; nothing else changes in the folder."""
    (model / "notes").mkdir()
    (model / "notes" / "a.txt").write_text("hello", encoding="utf-8")
    before = {path: path.read_bytes() for path in model.rglob("*") if path.is_file()}
    assert 0 == main(["ckpt", "manifest", str(model)])
    said = capsys.readouterr().out
    manifest = load(model / "manifest.json")

    assert before == {p: p.read_bytes() for p in model.rglob("*") if p.is_file() and p.name != "manifest.json"}
    assert {path.relative_to(model).as_posix() for path in before} == manifest.files.keys()
    assert blake3(before[model / SHARD]).hexdigest() == manifest.files[SHARD].digest
    assert 27 == sum(len(entry.tensors or {}) for entry in manifest.files.values())
    assert {""} == {entry.sha256 for entry in manifest.files.values()}
    assert f"{model / 'manifest.json'}: 6 files, " in said


def test_verifies_afterwards(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The folder passes with its manifest on every level, and one flipped byte is found with its tensor."""
    assert 0 == main(["ckpt", "manifest", str(model)])
    for level in Level:
        report = verify(model, level=level, require_manifest=True)
        assert (Status.OK, set()) == (
            report.status(),
            {entry.code for entry in report.findings} - {"sampled", "one_copy"},
        )
    assert "step" not in report.subject
    assert open_source(model).step is None
    flip(model / SHARD, -1)
    found = verify(model).findings

    assert ["digest_differs"] == [entry.code for entry in found]
    assert "changed in 'model." in found[0].message
    capsys.readouterr()


def test_sha256(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--sha256` adds the digests that hubs state; `--json` says what was done."""
    assert 0 == main(["ckpt", "manifest", str(model), "--sha256", "--json"])
    done = json.loads(capsys.readouterr().out)
    manifest = load(model / "manifest.json")

    assert hashlib.sha256((model / SHARD).read_bytes()).hexdigest() == manifest.files[SHARD].sha256
    assert ("ok", 5, manifest.root_sha256) == (done["status"], done["files"], done["root_sha256"])


def test_step_of_its_name(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder that is named by a step keeps it."""
    named = model.rename(model.with_name("checkpoint-120"))
    assert 0 == main(["ckpt", "manifest", str(named)])
    capsys.readouterr()

    assert 120 == load(named / "manifest.json").step == open_source(named).step


def test_broken_folder(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder that does not pass is not vouched for: nothing is written, and the findings are shown."""
    (model / SHARD).unlink()

    assert 1 == main(["ckpt", "manifest", str(model)])
    assert "file_missing" in capsys.readouterr().out
    for form in ("json", "junit", "sarif", "github"):
        assert 1 == main(["ckpt", "manifest", str(model), "--format", form])
        document = capsys.readouterr().out
        assert "file_missing" in document
        assert form != "json" or "failed" == json.loads(document)["status"]
    assert not (model / "manifest.json").exists()


@pytest.mark.parametrize(
    "what", ["a file", "a run", "a part", "a manifest", "another program's", "a link", "uncommitted"]
)
def test_refused(what: str, model: Path, step: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file, a run, what has a manifest, a link, a save that never ended: each with its reason, nothing written."""
    path, code, words = {
        "a file": (model / SHARD, 2, f"give its folder: {model}"),
        "a run": (step.parent.parent, 2, "is a run"),
        "a part": (step / "policy", 2, "whose manifest covers it"),
        "a manifest": (step, 1, "is there already"),
        "another program's": (model, 1, "is there already"),
        "a link": (model, 1, "is a link or a device"),
        "uncommitted": (step, 1, "a manifest would say that it did"),
    }[what]
    if what == "another program's":
        (model / "manifest.json").write_text("{}", encoding="utf-8")
    if what == "a link":
        (model / "more.txt").symlink_to("config.json")
    if what == "uncommitted":
        (step / "manifest.json").unlink()
    before = sorted(path.parent.rglob("*"))

    assert code == main(["ckpt", "manifest", str(path)])
    assert words in capsys.readouterr().err
    assert before == sorted(path.parent.rglob("*"))


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs users")
def test_folder_that_is_not_writable(
    model: Path,
    public: Callable[[Path], Path],
    limited: Callable[[], AbstractContextManager[None]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Where this user may not write, the error says so, and no half-written file stays."""
    path = public(model)
    assert 0 == main(["ckpt", "manifest", str(model)])
    path.chmod(0o555)
    with limited():
        code = main(["ckpt", "manifest", str(path)])
    path.chmod(0o755)

    said = capsys.readouterr()
    assert (1, True) == (code, "manifest.json cannot be written: Permission denied" in said.err), said
    assert 5 == len(list(path.iterdir()))


@pytest.mark.parametrize("left", [0, 5, 60, 200, 2000, -3])
def test_torn_manifest_of_a_foreign_folder(model: Path, left: int) -> None:
    """Wherever a manifest was cut off, `verify` says so: the folder has one, and it tells nothing any more."""
    assert 0 == main(["ckpt", "manifest", str(model)])
    file = model / "manifest.json"
    file.write_bytes(file.read_bytes()[:left])
    command = f"orz ckpt manifest {model}"

    for path in (model, model / SHARD):
        (found,) = (entry for entry in verify(path).findings if entry.code.startswith("manifest_"))
        assert "manifest_torn" == found.code
        assert (
            f"move this file away, make sure that the weights are right, and write a new one: {command}" in found.remedy
        )


@pytest.mark.parametrize("renamed", [True, False])
def test_torn_manifest_of_a_step(step: Path, tmp_path: Path, *, renamed: bool) -> None:
    """The copy of it that the save kept is named, as a command that mends the folder, whatever its name is."""
    root = step.rename(tmp_path / "a step") if renamed else step
    file = root / "manifest.json"
    file.write_bytes(file.read_bytes()[:-100])
    (found,) = verify(root).findings
    assert "manifest_torn" == found.code
    command = found.remedy.partition("verify again: ")[2].partition("; else ")[0]
    subprocess.run(shlex.split(command), check=True)

    assert () == verify(root).findings


def test_torn_manifest_of_a_renamed_step_without_a_copy(step: Path, tmp_path: Path) -> None:
    """No step is described by `orz ckpt manifest`, so that is not what is proposed for the whole of it."""
    root = step.rename(tmp_path / "s")
    shutil.rmtree(root / ".orz")
    (root / "manifest.json").write_bytes((root / "manifest.json").read_bytes()[:-100])
    (found,) = verify(root).findings

    assert "move this file away" not in found.remedy
    assert found.remedy.startswith("copy the folder again from where it came from; a copy of a part of it")


@pytest.mark.parametrize(("text", "code"), [(b"{}", "manifest_invalid"), (b"\0" * 300, "manifest_torn")])
def test_manifest_that_says_nothing(model: Path, text: bytes, code: str) -> None:
    """What a full disk or a power cut leaves of a manifest is an error, too."""
    (model / "manifest.json").write_bytes(text)

    assert {code} == {entry.code for entry in verify(model).findings if entry.code.startswith("manifest_")}
    assert 1 == main(["ckpt", "verify", str(model)])


def test_manifest_of_another_program(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is no error and covers nothing; where one of ours is asked for, what to do with it is said."""
    (model / "manifest.json").write_text('{"name": "a web page"}', encoding="utf-8")
    assert 0 == main(["ckpt", "verify", str(model)])
    assert 1 == main(["ckpt", "verify", str(model), "--require-manifest"])
    assert f"move {model / 'manifest.json'} away" in capsys.readouterr().out


@pytest.mark.parametrize("name", [b"a\x1b[2J.json", b"a\\b.txt", b"C:x.txt", b"two\nlines.txt", b"\xff.txt"])
@pytest.mark.parametrize("below", ["", "notes"])
def test_name_that_no_manifest_can_state(
    below: str, name: bytes, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is named before anything is hashed, and nothing is written; `verify` warns of one beside the weights."""
    (model / below).mkdir(exist_ok=True)
    try:
        (model / below / os.fsdecode(name)).write_text("x", encoding="utf-8")
    except OSError:
        pytest.skip("this file system refuses the name itself")
    monkeypatch.setattr("orz_ckpt.describing.read_entry", lambda *_, **__: pytest.fail("it was hashed"))

    assert 1 == main(["ckpt", "manifest", str(model)])
    said = capsys.readouterr().err
    assert "a manifest cannot name 1 file here" in said
    assert ascii(f"{below}/{os.fsdecode(name)}".lstrip("/")) in said
    assert "-> rename it" in said
    assert not (model / "manifest.json").exists()

    report = verify(model)
    told = [entry.path for entry in report.findings if entry.code == "name_not_portable"]
    assert (Status.OK, [] if below else [str(model)]) == (report.status(), told)
