"""What may not be read, and folders of runs: the reason and what to do, exit code 3, in every format."""

from __future__ import annotations

import errno
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest

from orz_cli.main import main
from orz_monitor.testing import healthy_metrics, step_records, write_run

pytestmark = pytest.mark.component


@pytest.fixture
def locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that may not be looked into, with a log in it that may not be read, also where root asks."""
    folder = tmp_path / "locked"
    folder.mkdir()
    (folder / "train.log").write_text("step:1 - actor/kl:0.5\n")
    folder_stat, file_open, access, scan = os.stat, io.open, os.access, os.scandir

    def refused(path: object) -> None:
        if str(path).startswith(f"{folder}"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    def stat(path: Any, *args: Any, **kwargs: Any) -> os.stat_result:
        if str(path).startswith(f"{folder}{os.sep}") and not str(path).endswith("train.log"):
            refused(path)
        return folder_stat(path, *args, **kwargs)

    def opened(path: Any, *args: Any, **kwargs: Any) -> Any:
        refused(path)
        return file_open(path, *args, **kwargs)

    def scanned(path: Any = ".") -> Any:
        refused(path)
        return scan(path)

    monkeypatch.setattr(os, "stat", stat)
    monkeypatch.setattr(io, "open", opened)
    monkeypatch.setattr(os, "scandir", scanned)
    monkeypatch.setattr(os, "access", lambda path, *a, **k: not str(path).startswith(str(folder)) and access(path, *a))
    return folder


@pytest.mark.parametrize("name", ["", "train.log"])
@pytest.mark.parametrize(
    "command",
    [
        *(["check"], ["report"], ["tail", "--once"], ["tail", "--plain"], ["watch", "--once", "--notify", "true"]),
        ["export", "--to", "csv", "-o", "x.csv"],
    ],
    ids=lambda command: "-".join(command[:2]),
)
def test_a_path_without_permission(
    command: list[str],
    name: str,
    locked: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """No usage error: the command was right, and its input can't be read."""
    monkeypatch.chdir(tmp_path)
    assert main(["monitor", *command, str(locked / name)]) == 3
    out, err = capsys.readouterr()
    assert "can't be read: Permission denied" in out + err
    assert f"{locked}: can't be read" in out + err
    assert "ask for permission to read it" in out + err or command[0] == "watch"
    assert "Traceback" not in err


def test_a_bundle_of_a_folder_without_permission(
    locked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is nothing to bundle."""
    assert main(["monitor", "bundle", str(locked), "-o", str(tmp_path / "x.zip")]) == 3
    assert f"{locked}" in (err := capsys.readouterr().err)
    assert "can't be read: Permission denied" in err


@pytest.mark.parametrize("name", ["", "train.log"])
def test_json_of_a_path_without_permission(name: str, locked: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A document, with the reason and what to do."""
    assert main(["monitor", "check", "--json", str(locked / name)]) == 3
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    assert run["status"] == "inconclusive"
    assert "can't be read: Permission denied" in run["reason"]
    assert "ask for permission to read it" in run["reason"]


def test_a_folder_of_runs_names_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The newest first, whatever other tools keep in them; the name that is given is one to check."""
    records = step_records(healthy_metrics(30))
    for age, name in enumerate(["b-newest", "a-older"]):
        run = write_run(tmp_path / "runs" / name, records)
        (run / "tensorboard").mkdir()
        target = ["--to", "tensorboard", "-o", str(run / "tensorboard")]
        assert main(["monitor", "export", str(run), *target]) == 0
        os.utime(run / "metrics.jsonl", (1e9 - age, 1e9 - age))
    capsys.readouterr()
    assert main(["monitor", "check", str(tmp_path / "runs")]) == 3
    out = capsys.readouterr().out
    assert f"{tmp_path / 'runs'}: holds 2 run folders, the newest first: b-newest, a-older" in out
    assert f"name one of them: {tmp_path / 'runs' / 'b-newest'}\n" in out
    assert main(["monitor", "check", str(tmp_path / "runs" / "b-newest")]) == 0
    write_run(tmp_path / "one" / "alone", records)
    assert main(["monitor", "check", str(tmp_path / "one")]) == 3
    assert f"holds a run folder: alone\n  -> name it: {tmp_path / 'one' / 'alone'}" in capsys.readouterr().out.replace(
        "\n    ->", "\n  ->"
    )


@pytest.mark.parametrize("command", ["check", "tail", "report", "bundle", "compare x"])
def test_an_empty_path_is_not_the_working_directory(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """As `"$RUN"` is where nobody has set it: nothing here is read, and nothing written."""
    assert main(["monitor", *command.split(), ""]) == 2
    assert "got an empty path, expected a file or a folder\n  -> " in capsys.readouterr().err
