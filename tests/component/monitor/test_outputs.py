"""Where `--output` may write: never over what is read, into pipes and through links, and to standard output."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest

from orz_cli.errors import UsageError
from orz_cli.main import main
from orz_monitor.publishing import publish
from orz_monitor.testing import healthy_metrics, step_records, write_run

pytestmark = pytest.mark.component

ROWS = '{"step": 1, "actor/kl": 0.5}\n{"step": 2, "actor/kl": 0.25}\n'
TABLE = "step,time,actor/kl\n1,,0.5\n2,,0.25\n"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = write_run(tmp_path / "run", step_records(healthy_metrics(30)), console="begins\n")
    for name in ("config.yaml", "environment.json", "logs/policy-0.log", "tensorboard/events.out.tfevents.1.host"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("seed: 1\n")
    return folder


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    file = tmp_path / "rows.jsonl"
    file.write_text(ROWS)
    return file


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "name",
    [
        *("metrics.jsonl", "console.log", "config.yaml", "environment.json", "logs/policy-0.log"),
        "tensorboard/events.out.tfevents.1.host",
    ],
)
@pytest.mark.parametrize("given", ["", "metrics.jsonl", "console.log"])
def test_no_file_of_a_run_is_written_over(run: Path, name: str, given: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Whichever part of the run was named; nothing changes, and what to do is said."""
    before = contents(run)
    assert main(["monitor", "export", str(run / given), "--to", "csv", "-o", str(run / name)]) == 2
    assert contents(run) == before
    assert f"{run / name}: " in (err := capsys.readouterr().err)
    assert "would be lost" in err
    assert "choose another place with --output" in err


def test_an_input_is_not_written_over(rows: Path, run: Path, tmp_path: Path) -> None:
    """By its name, through a link, as another name of the same file, and where it is named after a `#`."""
    link, hard, page = tmp_path / "link.jsonl", tmp_path / "hard.jsonl", tmp_path / "page.json"
    link.symlink_to(rows)
    hard.hardlink_to(rows)
    page.write_text(ROWS)
    for target in (rows, link, hard):
        assert main(["monitor", "export", str(rows), "--to", "jsonl", "-o", str(target)]) == 2
    assert main(["monitor", "export", f"{rows}#a", "--to", "jsonl", "-o", str(rows)]) == 2
    assert main(["monitor", "report", str(page), "-o", str(page)]) == 2
    assert main(["monitor", "report", str(run), "-o", str(run / "environment.json")]) == 2
    other = tmp_path / "other.html"
    other.write_text(ROWS)
    assert main(["monitor", "compare", str(rows), str(other), "-o", str(other)]) == 2
    archive = tmp_path / "log.zip"
    archive.write_text("step:1 - actor/kl:0.5\n")
    assert main(["monitor", "bundle", str(archive), "-o", str(archive)]) == 2
    assert (rows.read_text(), page.read_text(), other.read_text()) == (ROWS, ROWS, ROWS)
    assert archive.read_text() == "step:1 - actor/kl:0.5\n"


def test_one_run_is_not_the_page_of_another(run: Path, tmp_path: Path) -> None:
    """Of several runs, none is written over by the report of another."""
    other = tmp_path / "run.html"
    other.write_text(ROWS)
    assert main(["monitor", "report", str(run), str(other), "-o", str(tmp_path)]) == 2
    assert other.read_text() == ROWS


def test_what_a_watch_remembers_is_kept_elsewhere(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not in place of the run that it watches."""
    before = contents(run)
    watch = ["monitor", "watch", str(run), "--once", "--notify", "true", "--state"]
    assert main([*watch, str(run / "console.log")]) == 2
    assert "choose another place with --state" in capsys.readouterr().err
    assert contents(run) == before


def test_what_was_made_of_a_run_is_made_again(run: Path) -> None:
    """A report or a table may lie in the run folder, and a newer one takes its place."""
    for _ in range(2):
        assert main(["monitor", "export", str(run), "--to", "csv", "-o", str(run / "values.csv")]) == 0
        assert main(["monitor", "report", str(run), "-o", str(run / "report.md")]) == 0


def test_links_are_followed(rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One to a file, and one to where none is yet: it stays a link."""
    (tmp_path / "there").mkdir()
    for name in ("old.csv", "new.csv"):
        link, file = tmp_path / name, tmp_path / "there" / name
        if name == "old.csv":
            file.write_text("old")
        link.symlink_to(file)
        assert main(["monitor", "export", str(rows), "--to", "csv", "-o", str(link)]) == 0
        assert link.is_symlink()
        assert file.read_text() == TABLE
        assert capsys.readouterr().out == f"{link}\n"
    assert sorted(path.name for path in (tmp_path / "there").iterdir()) == ["new.csv", "old.csv"]


def test_a_pipe_stays_a_pipe(rows: Path, tmp_path: Path) -> None:
    """And its reader gets all of it."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()), daemon=True)
    reader.start()
    assert main(["monitor", "export", str(rows), "--to", "csv", "-o", str(pipe)]) == 0
    reader.join(timeout=30)
    assert read == [TABLE]
    assert pipe.is_fifo()


def test_a_dash_is_standard_output(
    rows: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """The file alone is there, without its path, and no file of that name."""
    monkeypatch.chdir(tmp_path)
    assert main(["monitor", "export", str(rows), "--to", "csv", "-o", "-"]) == 0
    assert capfdbinary.readouterr().out.decode() == TABLE
    assert main(["monitor", "report", str(run), "-o", "-"]) == 0
    assert capfdbinary.readouterr().out.startswith(b"<!doctype")
    assert main(["monitor", "compare", str(run), str(run), "-o", "-"]) == 0
    assert capfdbinary.readouterr().out.startswith(b"<!doctype")
    assert main(["monitor", "bundle", str(run), "-o", "-"]) == 0
    with zipfile.ZipFile(io.BytesIO(capfdbinary.readouterr().out)) as archive:
        assert "orz-bundle/config.yaml" in archive.namelist()
    assert main(["monitor", "export", str(run), "--to", "tensorboard", "-o", "-"]) == 2
    assert main(["monitor", "report", str(run), str(rows), "-o", "-"]) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.jsonl", "run"]


def test_a_closed_standard_output_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """As Python leaves it after `>&-`."""
    with monkeypatch.context() as patch:
        patch.setattr("sys.stdout", None)
        with pytest.raises(UsageError, match="-: can't be written: Bad file descriptor"):
            publish(Path("-"), Path.touch)
    assert capsys.readouterr().out == ""


def test_a_command_with_a_closed_standard_output_does_not_say_that_it_wrote(rows: Path) -> None:
    """As a user closes it."""
    command = [sys.executable, "-m", "orz_cli", "monitor", "export", str(rows), "--to", "csv", "-o", "-"]
    done = subprocess.run(["sh", "-c", '"$@" >&-', "sh", *command], check=False, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert "-: can't be written: Bad file descriptor" in done.stderr


def test_what_was_made_among_the_logs_is_made_again(run: Path) -> None:
    """A report or the memory of a watch; a log stays."""
    for _ in range(2):
        assert main(["monitor", "report", str(run), "-o", str(run / "logs" / "report.html")]) == 0
    assert main(["monitor", "report", str(run), "-o", str(run / "logs" / "policy-0.log")]) == 2


def test_where_standard_output_goes_is_standard_output(
    rows: Path, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """A name of it, as `/dev/stdout` is one, is not replaced by a file."""
    name = tmp_path / "out"
    name.symlink_to("/proc/self/fd/1")
    if not name.exists():
        pytest.skip("this system has no /proc")
    assert main(["monitor", "export", str(rows), "--to", "csv", "-o", str(name)]) == 0
    assert capfdbinary.readouterr().out.decode() == TABLE
    assert name.is_symlink()
