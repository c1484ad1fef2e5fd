"""`orz monitor check` and `orz monitor report`, as a user runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from orz_cli.main import main
from orz_monitor.testing import healthy_metrics, step_records, write_run

pytestmark = pytest.mark.component


@pytest.fixture
def healthy(tmp_path: Path) -> Path:
    return write_run(tmp_path / "healthy", step_records(healthy_metrics(60)))


@pytest.fixture
def warned(tmp_path: Path) -> Path:
    metrics = healthy_metrics(60)
    metrics["policy/kl_ref"][50] = np.inf
    return write_run(tmp_path / "warned", step_records(metrics))


@pytest.fixture
def sick(tmp_path: Path) -> Path:
    metrics = healthy_metrics(60)
    metrics["reward/mean"][40:] = 0.0
    metrics["reward/solved_frac"] = metrics["reward/mean"]
    return write_run(tmp_path / "sick", step_records(metrics))


def test_a_healthy_run_exits_0(healthy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The verdict is on stdout, nothing on stderr; folder and file are the same."""
    assert main(["monitor", "check", str(healthy)]) == 0
    assert main(["monitor", "check", str(healthy / "metrics.jsonl")]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("ok  ")
    assert "nothing found" in out
    assert err == ""


def test_a_sick_run_exits_1_and_says_what_to_try(sick: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Severity, numbers, place, causes and remedies are in the text, each on one line in a pipe."""
    assert main(["monitor", "check", str(sick)]) == 1
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert "error[reward_floor] The reward does not vary" in lines
    assert "The mean reward was exactly 0 in all 20 steps from 40 to 59." in lines
    assert f"{sick / 'metrics.jsonl'}:42" in lines
    assert any(line.startswith("try: fix the reward function") for line in lines)


def test_a_warning_fails_only_when_asked(warned: Path) -> None:
    """--fail-on error is the default."""
    assert main(["monitor", "check", str(warned)]) == 0
    assert main(["monitor", "check", str(warned), "--fail-on", "warn"]) == 1


def test_what_can_not_be_decided_exits_3(tmp_path: Path, healthy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A log without metrics, an empty folder and a missing path are no pass, alone or beside a healthy run."""
    log = tmp_path / "train.log"
    log.write_text("Loading the model\n")
    (tmp_path / "empty").mkdir()
    for path in (log, tmp_path / "empty", tmp_path / "missing"):
        assert main(["monitor", "check", str(path)]) == 3
        assert main(["monitor", "check", str(healthy), str(path)]) == 3
    assert "no metric recognised" in capsys.readouterr().out


def test_findings_outweigh_what_can_not_be_decided(sick: Path, tmp_path: Path) -> None:
    """A run known to be sick fails the check, whatever else is unreadable."""
    assert main(["monitor", "check", str(tmp_path / "missing"), str(sick)]) == 1


@pytest.mark.parametrize("output", ["text", "json", "junit", "sarif", "github"])
def test_the_exit_code_does_not_depend_on_the_format(
    output: str, sick: Path, healthy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each format says the same."""
    assert main(["monitor", "check", str(sick), "--format", output]) == 1
    assert main(["monitor", "check", str(healthy), "--format", output]) == 0
    assert "Traceback" not in capsys.readouterr().err


def test_json_is_short_for_format_json(sick: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--json prints the shared shape and nothing else; with another format it is a mistake."""
    assert main(["monitor", "check", str(sick), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["status"] == "failed"
    assert main(["monitor", "check", str(sick), "--json", "--format", "junit"]) == 2


@pytest.mark.parametrize("arguments", [[], ["--format", "yaml", "x"], ["--fail-on", "info", "x"], ["--nonsense", "x"]])
def test_wrong_usage_exits_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """No traceback for a mistyped command."""
    assert main(["monitor", "check", *arguments]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_report_writes_one_file_and_prints_its_path(healthy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By default report.html in the run folder; a second one replaces the first; nothing else is left."""
    before = {path.name for path in healthy.iterdir()}
    for _ in range(2):
        assert main(["monitor", "report", str(healthy)]) == 0
        assert capsys.readouterr().out == f"{healthy / 'report.html'}\n"
    assert before | {"report.html"} == {path.name for path in healthy.iterdir()}


@pytest.mark.parametrize(
    ("name", "begins"), [("r.md", "# made-up: Unhealthy"), ("r.json", "{"), ("R.HTML", "<!doctype")]
)
def test_the_ending_chooses_the_form(sick: Path, tmp_path: Path, name: str, begins: str) -> None:
    """Markdown, JSON or HTML; a report of a sick run is still a report."""
    assert main(["monitor", "report", str(sick), "-o", str(tmp_path / name)]) == 0
    assert (tmp_path / name).read_text().startswith(begins)


def test_several_runs_have_a_page_each(
    healthy: Path, sick: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a folder, which must be named; runs of one name are numbered."""
    again = write_run(tmp_path / "elsewhere" / "healthy", step_records(healthy_metrics(60)))
    runs, out = [str(path) for path in (healthy, sick, again)], tmp_path / "reports"
    assert main(["monitor", "report", *runs, "-o", str(out)]) == 0
    pages = [out / "healthy.html", out / "sick.html", out / "healthy-2.html"]
    assert capsys.readouterr().out.split() == [str(page) for page in pages]
    assert all(page.read_text().startswith("<!doctype") for page in pages)
    for wrong in ([], ["-o", str(tmp_path / "one.html")]):
        assert main(["monitor", "report", *runs, *wrong]) == 2
        assert "3 runs need a folder" in capsys.readouterr().err


def test_a_report_that_can_not_be_made_is_no_traceback(
    healthy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unknown ending, a folder that is not there, a run that is not there."""
    assert main(["monitor", "report", str(healthy), "-o", str(tmp_path / "r.pdf")]) == 2
    assert main(["monitor", "report", str(healthy), "-o", str(tmp_path / "no" / "r.html")]) == 2
    assert main(["monitor", "report", str(tmp_path / "missing")]) == 3
    assert "Traceback" not in capsys.readouterr().err


def test_help_loads_no_numpy() -> None:
    """`orz monitor --help` answers before anything heavy is imported."""
    code = "import sys, orz_monitor.cli; sys.exit('numpy' in sys.modules)"
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    assert subprocess.run([sys.executable, "-c", code], check=False, env=environment).returncode == 0


def test_rules_that_can_not_judge_are_grouped_by_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A short run without a reference says both in a line each."""
    metrics = {name: values for name, values in healthy_metrics(12).items() if name != "policy/kl_ref"}
    assert main(["monitor", "check", str(write_run(tmp_path / "short", step_records(metrics)))]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    how = "set `kl.loss_coef` or `kl.reward_coef` above 0; without, no reference is loaded".replace("`", "")
    assert f"not evaluated, not logged policy/kl_ref ({how}): kl_drift, kl_spike, kl_zero" in lines
    assert sum(line.startswith("not evaluated, not logged: ") for line in lines) == 1
    assert sum(line.startswith("not evaluated, too few steps: ") for line in lines) == 1


@pytest.mark.parametrize("command", [["check"], ["tail", "--once"], ["compare", "--all"]], ids=lambda words: words[0])
def test_a_reader_that_leaves_is_no_failure(command: list[str], healthy: Path) -> None:
    """What was cut off may have held the verdict: not decided, and not a word."""
    reads, writes = os.pipe()
    os.close(reads)
    paths = [str(healthy)] * (2 if command[0] == "compare" else 1)
    with os.fdopen(writes, "wb") as pipe:
        process = subprocess.run(
            [sys.executable, "-m", "orz_cli", "monitor", *command, *paths],
            stdout=pipe,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert (process.returncode, process.stderr) == (3, b"")


def test_numbers_that_no_rule_knows_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first twenty of them, and how many more there are."""
    path = tmp_path / "mine.log"
    more = " ".join(f"z{index:02}=1" for index in range(30))
    path.write_text("".join(f"step {step}: loss 0.5 reward 0.{step} zork 5 {more}\n" for step in range(1, 9)))
    assert main(["monitor", "check", str(path)]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if "under their own names" in line)
    assert line.strip().startswith("under their own names: z00, z01, z02, ")
    assert line.endswith(" and 11 more")
