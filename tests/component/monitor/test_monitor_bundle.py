"""`orz monitor bundle`: what is in it, and what is not."""

from __future__ import annotations

import gzip
import json
import tarfile
import zipfile
from pathlib import Path

import pytest

from orz_cli.main import main
from orz_monitor.testing import healthy_metrics, step_records, write_run

pytestmark = pytest.mark.component

SECRET = "hf_abcdefghijklmnopqrstuvwxyz"  # noqa: S105 - made up


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = write_run(tmp_path / "run", step_records(healthy_metrics(30)), console=f"login {SECRET}\nTraceback\n")
    (folder / "config.yaml").write_text(f"policy:\n  lr: 1e-6\nhub_token: {SECRET}\n")
    (folder / "environment.json").write_text('{"torch": "2.9"}')
    (folder / "logs").mkdir()
    (folder / "logs" / "policy-0.log").write_text("x" * 99 + "\n" + "line\n" * 200_000)
    (tmp_path / "outside.log").write_text("private")
    (folder / "logs" / "link.log").symlink_to(tmp_path / "outside.log")
    return folder


def test_all_that_maintainers_ask_for(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Findings, versions, configuration, ends of logs; no secret, no file from outside; the same bytes again."""
    target = tmp_path / "out.zip"
    assert main(["monitor", "bundle", str(run), "-o", str(target)]) == 0
    out, err = capsys.readouterr()
    assert out == f"{target}\n"
    assert "2 x token of Hugging Face" in err
    with zipfile.ZipFile(target) as archive:
        files = {name.removeprefix("orz-bundle/"): archive.read(name).decode() for name in archive.namelist()}
    assert set(files) == {
        *("README.txt", "findings.json", "versions.json", "config.yaml", "environment.json"),
        *("console.log", "metrics.jsonl", "logs/policy-0.log"),
    }
    assert not any(SECRET in text or "private" in text for text in files.values())
    assert json.loads(files["findings.json"])["status"] == "ok"
    assert "orz-monitor" in json.loads(files["versions.json"])["packages"]
    assert "lr: 1e-6" in files["config.yaml"]
    assert len(files["logs/policy-0.log"]) <= 512 << 10
    assert files["logs/policy-0.log"].startswith("line\n")
    assert "link.log: a link, not followed" in files["README.txt"]
    assert "of 1000100 bytes" in files["README.txt"]
    before = target.read_bytes()
    assert main(["monitor", "bundle", str(run), "-o", str(target)]) == 0
    assert target.read_bytes() == before


def test_a_tar_file_of_a_log_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log without a run folder is bundled with what the rules say of it, even that they can't judge it."""
    log = tmp_path / "train.log"
    log.write_text("no metric here\n")
    target = tmp_path / "out.tar.gz"
    assert main(["monitor", "bundle", str(log), "-o", str(target)]) == 0
    with tarfile.open(target) as archive:
        names = archive.getnames()
    assert "orz-bundle/train.log" in names
    monkeypatch.chdir(tmp_path)
    assert main(["monitor", "bundle", str(log)]) == 0
    assert (tmp_path / "train.log-bundle.zip").is_file()


def test_wrong_usage(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown ending, a folder that is not there, nothing to bundle."""
    assert main(["monitor", "bundle", str(run), "-o", str(tmp_path / "x.rar")]) == 2
    assert main(["monitor", "bundle", str(run), "-o", str(tmp_path / "no" / "x.zip")]) == 2
    assert main(["monitor", "bundle", str(tmp_path / "missing"), "-o", str(tmp_path / "x.zip")]) == 3
    assert "Traceback" not in capsys.readouterr().err


def test_a_folder_without_anything_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Findings and versions alone would help nobody; an archive of them is not written."""
    empty, target = tmp_path / "empty", tmp_path / "out.zip"
    empty.mkdir()
    (empty / "model.bin").write_bytes(b"weights")
    (tmp_path / "outside.log").write_text("private")
    (empty / "link.log").symlink_to(tmp_path / "outside.log")
    assert main(["monitor", "bundle", str(empty), "-o", str(target)]) == 3
    err = capsys.readouterr().err
    assert f"{empty}: no log, no records, no settings and no store" in " ".join(err.split())
    assert not target.exists()


@pytest.mark.parametrize("kind", ["gz", "csv"])
def test_a_run_in_another_form_has_its_findings(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A compressed log or a table is a run, though no file of it is text that a tail could be taken of."""
    folder, target = tmp_path / "run", tmp_path / "out.zip"
    folder.mkdir()
    log = "".join(f"step:{step} - actor/pg_loss:0.5 - critic/score/mean:0.1\n" for step in range(9)).encode()
    table = "step,loss,reward\n" + "".join(f"{step},0.5,0.1\n" for step in range(9))
    name = {"gz": "train.log.gz", "csv": "progress.csv"}[kind]
    (folder / name).write_bytes(gzip.compress(log) if kind == "gz" else table.encode())
    assert main(["monitor", "bundle", str(folder), "-o", str(target)]) == 0, capsys.readouterr().err
    with zipfile.ZipFile(target) as archive:
        assert json.loads(archive.read("orz-bundle/findings.json"))["status"] == "ok"
