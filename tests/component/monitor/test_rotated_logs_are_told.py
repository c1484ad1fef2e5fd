"""Every command that reads a log with its earlier parts says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orz_cli.main import main
from orz_monitor.tail.plain import PlainLines
from orz_monitor.tail.source import Source

pytestmark = pytest.mark.component

SAID = "read with train.log.2 and train.log.1: earlier parts of the log"


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for index, name in enumerate(["train.log.2", "train.log.1", "train.log"]):
        steps = range(10 * index, 10 * index + 10)
        (tmp_path / name).write_text(
            "".join(f"step:{i} - actor/pg_loss:0.{i} - critic/score/mean:0.{i % 7}\n" for i in steps)
        )
    return tmp_path / "train.log"


@pytest.mark.parametrize(
    "command",
    [["check"], ["tail", "--once"], ["tail", "--once", "--plain"], ["export", "--to", "csv", "-o", "x.csv"]],
    ids=" ".join,
)
def test_what_was_read_with_a_log(command: list[str], log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On standard output, or on standard error where that is for values."""
    assert main(["monitor", *command, str(log)]) == 0
    assert SAID in "".join(capsys.readouterr())


def test_what_the_runs_of_a_comparison_were_read_with(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the table and on the page."""
    assert main(["monitor", "compare", str(log), str(log), "-o", "x.html"]) == 0
    assert f"train.log: {SAID}" in capsys.readouterr().out
    assert f"train.log: {SAID}" in Path("x.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", ["x.html", "x.md"])
def test_what_a_report_was_made_of(page: str, log: Path) -> None:
    """At the end of the page, where it says what was read, and at the top of a comment."""
    assert main(["monitor", "report", str(log), "-o", page]) == 0
    text = Path(page).read_text(encoding="utf-8").replace("\\", "")
    assert f"R{SAID[1:]}." in text


def test_what_a_check_in_json_was_made_of(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The paths, oldest first."""
    assert main(["monitor", "check", "--json", str(log)]) == 0
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    assert run["earlier_parts"] == [f"{log}.2", f"{log}.1"]


def test_a_bundle_names_the_parts_that_are_not_in_it(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It holds the log that was named."""
    assert main(["monitor", "bundle", str(log), "-o", "x.zip"]) == 0
    assert "train.log.2 and train.log.1: earlier parts of the log" in capsys.readouterr().err


def test_a_part_is_not_written_over(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is read is never lost."""
    assert main(["monitor", "export", "--to", "csv", "-o", f"{log}.1", str(log)]) == 2
    assert f"{log}.1: is read with {log}, and would be lost" in capsys.readouterr().err


def test_what_is_followed_with_a_log(log: Path) -> None:
    """Once, before its steps."""
    log.write_text(log.read_text() + "Final validation metrics: {'val-core/a/acc/mean@1': 0.5}\n")
    said: list[str] = []
    with Source(log) as source:
        PlainLines(source, said.append).follow()
    assert said.count(f"{log}: {SAID}") == 1
    assert said.index(f"{log}: {SAID}") < said.index("steps 0 to 29 were there before; the last 10:")
