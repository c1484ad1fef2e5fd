"""`orz ckpt copy` from a web server, which says of one file what is in it, and not what files there are."""

from __future__ import annotations

import functools
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import fsspec
import numpy as np
import pytest
from safetensors.numpy import save_file

from orz_ckpt.copy.run import copy
from orz_ckpt.errors import MissingPathError
from orz_ckpt.inventory import step_folder
from orz_ckpt.manifest import MANIFEST_NAME
from orz_ckpt.verify import verify
from orz_cli.errors import UsageError
from orz_cli.findings import Status
from orz_cli.main import main

pytest.importorskip("aiohttp", reason="fsspec reads from web servers with aiohttp")
pytestmark = pytest.mark.component


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, and a page that lists it."""

    def log_message(self, *_: object) -> None:
        pass


class Friendly(Quiet):
    """Answers with a page, whatever is asked for."""

    def do_GET(self) -> None:
        self.path = "/"
        super().do_GET()


class InParts(Quiet):
    """Sends the part of a file that was asked for, as most servers do."""

    asked: ClassVar[list[int]] = []

    def do_GET(self) -> None:
        begin = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        data = Path(self.translate_path(self.path)).read_bytes()
        if begin:
            self.asked.append(begin)
        self.send_response(200 if not begin else 206 if begin < len(data) else 416)
        self.send_header("Content-Length", str(len(data[begin:])))
        self.end_headers()
        self.wfile.write(data[begin:])


@contextmanager
def served(folder: Path, kind: type[Quiet] = Quiet) -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(kind, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            client = fsspec.filesystem("http")
            client.close_session(client.loop, client._session)
            client.clear_instance_cache()  # whoever reads a URL after this gets another one


def test_a_checkpoint(step: Path, tmp_path: Path) -> None:
    """It lists nothing that can be relied on: the manifest names the files."""
    with served(step) as address:
        done = copy(address, str(tmp_path / "there"))
    assert Status.OK == done.status(), done.findings
    assert Status.OK == verify(tmp_path / "there", require_manifest=True).status()
    with pytest.raises(UsageError, match="can be read, and not written"):
        copy(str(step), "http://127.0.0.1:1/x")


@pytest.mark.parametrize(
    ("text", "status", "code"),
    [("", Status.FAILED, "manifest_torn"), ('{"v": 99}', Status.INCONCLUSIVE, "manifest_newer")],
)
def test_a_manifest_that_cannot_be_used(step: Path, tmp_path: Path, text: str, status: Status, code: str) -> None:
    """It is not said to be missing: the exit code is that of `verify`."""
    (step / MANIFEST_NAME).write_text(text)
    with served(step) as address:
        done = copy(address, str(tmp_path / "there"))
    assert (status, [code]) == (done.status(), [entry.code for entry in done.findings])


@pytest.mark.parametrize("status", [404, 410])
def test_a_file_that_the_server_lacks(
    step: Path, tmp_path: Path, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is told as of a folder of this machine: which one, and what to do; once it is there the copy goes on."""
    lost = step / "policy" / "model-00002-of-00002.safetensors"
    aside, there = lost.rename(tmp_path / "aside"), tmp_path / "there"
    expected = f"it is not there; {aside.stat().st_size:,} bytes expected"
    assert 1 == main(["ckpt", "copy", str(step), str(tmp_path / "other"), "--json"])
    (on_disk,) = json.loads(capsys.readouterr().out)["findings"]
    real = Quiet.send_error
    monkeypatch.setattr(Quiet, "send_error", lambda self, _, *rest: real(self, status, *rest))
    with served(step) as address:
        assert 1 == main(["ckpt", "copy", address, str(there), "--json"])
        (found,) = json.loads(capsys.readouterr().out)["findings"]
        assert ("file_missing", expected) == (found["code"], found["message"])
        assert f"{address}/policy/{lost.name}" == found["path"]
        assert {**on_disk, "path": found["path"]} == found
        assert not there.exists()
        assert 1 == main(["ckpt", "copy", address, "memory://lacking/step", "--json"])
        assert json.loads(capsys.readouterr().out)["findings"] == [found]
        aside.rename(lost)
        assert Status.OK == copy(address, str(there)).status()


def large_checkpoint(folder: Path) -> Path:
    """Make one whose files are larger than what fsspec asks a server for at a time, 5 MiB."""
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    rng = np.random.default_rng(0)
    save_file({"a": rng.random(3_000_000, dtype=np.float32)}, folder / "model.safetensors")
    assert 0 == main(["ckpt", "manifest", str(folder)])
    return folder


@pytest.mark.parametrize("kind", [Quiet, InParts])
def test_a_large_file(tmp_path: Path, kind: type[Quiet]) -> None:
    """It comes from a server that sends files whole, and from one that sends parts of them."""
    source = large_checkpoint(tmp_path / "large")
    with served(source, kind) as address:
        done = copy(address, str(tmp_path / "there"))
    assert Status.OK == done.status(), done.findings
    name = "model.safetensors"
    assert (source / name).read_bytes() == (tmp_path / "there" / name).read_bytes()


@pytest.mark.parametrize("kind", [Quiet, InParts])
@pytest.mark.parametrize("begun", [7_000_000, None], ids=["a part", "all of it"])
def test_a_large_file_that_was_begun(tmp_path: Path, kind: type[Quiet], begun: int | None) -> None:
    """What is there stays; the rest is asked for, and found in the whole where a server sends no parts."""
    source = large_checkpoint(tmp_path / "large")
    whole = (source / "model.safetensors").read_bytes()
    staged = tmp_path / ".there.orz-copy" / "files"
    staged.mkdir(parents=True)
    (staged / "model.safetensors").write_bytes(whole[:begun])
    InParts.asked.clear()
    with served(source, kind) as address:
        done = copy(address, str(tmp_path / "there"))
    assert Status.OK == done.status(), done.findings
    assert whole == (tmp_path / "there" / "model.safetensors").read_bytes()
    assert ([] if kind is Quiet else [begun or len(whole)]) == InParts.asked


def test_a_server_that_stops_amid_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is an error of the server, and the next copy goes on."""
    source = large_checkpoint(tmp_path / "large")
    real = Quiet.copyfile

    def stopping(self, opened, target) -> None:
        data = opened.read()
        target.write(data if len(data) < 5_000_000 else data[:6_000_000])

    monkeypatch.setattr(Quiet, "copyfile", stopping)
    with served(source) as address:
        assert 3 == main(["ckpt", "copy", address, str(tmp_path / "there")])
        assert f"{address}/model.safetensors: " in capsys.readouterr().err
        monkeypatch.setattr(Quiet, "copyfile", real)
        assert Status.OK == copy(address, str(tmp_path / "there")).status()


@pytest.mark.parametrize("below", ["", "/", "/checkpoints", "/checkpoints/step_000030/policy"])
@pytest.mark.parametrize("kind", [Quiet, Friendly])
def test_what_has_no_manifest(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], below: str, kind: type[Quiet]
) -> None:
    """That a server cannot list files is said, and not that nothing is there; the address to give is one that works."""
    with served(run, kind) as address:
        code = main(["ckpt", "copy", f"{address}{below}", str(tmp_path / "there")])
        said = " ".join(capsys.readouterr().err.split())
        assert 2 == code, said
        assert f"{(address + below).rstrip('/')} has no manifest.json of a checkpoint, and a web server cannot" in said
        assert "checkpoints/step_000050" in said
        assert not (tmp_path / "there").exists()
        if kind is Quiet:
            proposed = step_folder(Path(), 30)
            assert Status.OK == copy(f"{address}/{proposed}", str(tmp_path / "there")).status()


def test_a_store_without_it(tmp_path: Path) -> None:
    """What can list says that nothing is there."""
    with pytest.raises(MissingPathError, match="nothing is there"):
        copy("memory://bucket/none", str(tmp_path / "there"))
