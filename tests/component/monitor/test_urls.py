"""URLs on the command line: read, cited and refused under the name that the user gave."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from orz_cli.main import main
from orz_monitor.addresses import is_url, located
from orz_monitor.loading import load_run
from orz_monitor.testing import healthy_metrics, step_records, write_run

pytestmark = pytest.mark.component

CRASH = "step:1 - actor/kl:0.5\nTraceback (most recent call last):\n  File 'a.py', line 3, in f\nRuntimeError: boom\n"


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def log(tmp_path: Path) -> Path:
    file = tmp_path / "served" / "c.log"
    file.parent.mkdir()
    file.write_text(CRASH)
    return file


@pytest.fixture
def url(log: Path) -> Iterator[str]:
    """Where a server offers the log."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(log.parent))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/c.log"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("named", "shown"),
    [
        ("http://host/a//b.log?u=https://x/y", "http://host/a//b.log?u=https://x/y"),
        ("s3://bucket/x.log", "s3://bucket/x.log"),
        ("hdfs:///x.log", "hdfs:///x.log"),
        ("simplecache::s3://bucket/x.log", "simplecache::s3://bucket/x.log"),
        ("s3:/bucket/x.log", "s3://bucket/x.log"),
        ("file:///abs/a%20b.log", "/abs/a b.log"),
        ("file://localhost/abs/x.log", "/abs/x.log"),
        ("file:/abs/x.log", "/abs/x.log"),
        ("runs/x.log", "runs/x.log"),
        ("-", "-"),
    ],
)
def test_a_url_keeps_its_slashes(named: str, shown: str) -> None:
    """`file://` is a path of this machine; what `pathlib` has cut is whole again."""
    assert str(located(named)) == shown
    assert str(located(located(named))) == shown
    assert is_url(located(named)) == (":/" in shown)


def test_a_file_url_is_the_file(log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also for a run folder, and for a path that went through `pathlib`."""
    run = write_run(tmp_path / "run", step_records(healthy_metrics(30)))
    assert main(["monitor", "check", f"file://{run}"]) == 0
    assert main(["monitor", "check", f"file://{log}"]) == 1
    assert f"{log}:4" in capsys.readouterr().out
    assert load_run(Path(f"file://{log}")).steps.tolist() == [1]


@pytest.mark.parametrize("output", ["text", "json", "junit", "sarif", "github"])
def test_findings_cite_the_url(output: str, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """In every format, and never with a slash less."""
    assert main(["monitor", "check", url, "--format", output]) == 1
    out = capsys.readouterr().out.replace("%3A", ":").replace("%2F", "/")
    assert url in out
    assert "http:/1" not in out
    if output == "json":
        document = json.loads(out)
        assert {document["runs"][0]["path"], document["findings"][0]["file"]} == {url}
        assert document["findings"][0]["run"] == "c.log"


def test_what_is_not_there_is_told_with_its_url(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 3, as for a file."""
    assert main(["monitor", "check", url.replace("c.log", "missing.log")]) == 3
    assert url.replace("c.log", "missing.log") in capsys.readouterr().out


def test_the_report_of_a_url_is_written_here(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the working directory, where nothing is named."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert main(["monitor", "report", url]) == 0
    assert capsys.readouterr().out == "report.html\n"
    assert "c.log:4" in (tmp_path / "here" / "report.html").read_text()
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["report.html"]


@pytest.mark.parametrize(
    ("named", "words"),
    [("http://host/c.log", "http://host/c.log: a bundle is made of files of this machine"), ("-", "standard input: a")],
)
def test_a_bundle_is_of_this_machine(named: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A URL and standard input are refused, with what to do."""
    assert main(["monitor", "bundle", named]) == 3
    err = capsys.readouterr().err
    assert words in err
    assert "copy the log" in err


def test_a_url_is_not_followed(capsys: pytest.CaptureFixture[str]) -> None:
    """And is shown as it was given."""
    assert main(["monitor", "tail", "http://host/c.log"]) == 2
    assert "http://host/c.log: only files of this machine are followed" in capsys.readouterr().err
