"""`orz ckpt copy` from a web server, which says of one file what is in it, and not what files there are."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec
import pytest

from orz_ckpt.copy.run import copy
from orz_ckpt.errors import MissingPathError
from orz_ckpt.inventory import step_folder
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
