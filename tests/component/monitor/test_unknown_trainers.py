"""A log of a trainer that nobody has described: the check and the report say how little was recognised in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orz_cli.main import main
from orz_monitor.engine import judge
from orz_monitor.loading import load_run
from orz_monitor.report.content import gather

pytestmark = pytest.mark.component

TEXT = "the quick brown fox\n" * 9


def log_of(folder: Path, line: str, num_steps: int = 100) -> Path:
    path = folder / "other.log"
    path.write_text("".join(line.replace("@", str(i)) + "\n" + TEXT for i in range(num_steps)), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("line", "recognised", "judgement"),
    [
        (
            "epoch @ block 12 reward 0.5 loss 0.25",
            "2 metrics recognised by their names alone (loss, reward)",
            "; little to judge a run by",
        ),
        ("step @ grad_norm 0.5", "1 metric recognised by its name alone (grad_norm)", "; little to judge a run by"),
        (
            "step @ Mean reward 0.5 loss 0.25 kl 0.125",
            "3 metrics recognised by their names alone (kl, loss, Mean reward)",
            "",
        ),
    ],
)
def test_the_check_says_how_little_was_recognised(
    tmp_path: Path, line: str, recognised: str, judgement: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """By which names, and on how many of all lines."""
    path = log_of(tmp_path, line)
    main(["monitor", "check", str(path)])
    said = f"  an unknown trainer's log: {recognised}, on 100 of 1000 lines{judgement}"
    assert said in capsys.readouterr().out.splitlines()
    main(["monitor", "check", str(path), "--json"])
    document = json.loads(capsys.readouterr().out)
    assert (document["coverage"]["records"], document["coverage"]["lines"]) == (100, 1000)
    assert document["runs"][0]["trainer"] == "generic"


def test_a_log_of_a_known_trainer_is_no_guess(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its lines are its own, however few metrics are on them."""
    main(["monitor", "check", str(log_of(tmp_path, "step:@ - actor/pg_loss:0.5"))])
    assert "unknown trainer" not in capsys.readouterr().out


def test_a_report_does_not_call_healthy_what_it_hardly_knows(tmp_path: Path) -> None:
    """Whatever rules looked at the one or two metrics; and it says how much it has read."""
    path = log_of(tmp_path, "epoch @ block 12 reward 0.5@ loss 0.2@")
    verdict = judge(load_run(path))
    assert not gather(verdict).verdict_words[0].startswith("Healthy")
    page = tmp_path / "report.html"
    assert main(["monitor", "report", str(path), "--output", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert "10.0 % of 1000 lines hold metrics" in text
    assert "2 metrics recognised by their names alone (loss, reward)" in text.replace("&#x27;", "'")


def bar_of(epochs: list[int], between: str) -> str:
    """Return the frames of a bar of nine batches an epoch, as Lightning redraws it."""
    return "".join(
        f"Epoch {epoch}: {batch}0%|##  | {batch}/10 [00:0{batch}<00:09, 3it/s, loss={epoch}.5, acc=0.{batch}]{between}"
        for epoch in epochs
        for batch in range(1, 10)
    )


@pytest.mark.parametrize(("between", "num_lines"), [("\r", 1), ("\n", 27)])
def test_frames_of_a_bar_are_no_restarts(
    tmp_path: Path, between: str, num_lines: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each epoch has the values of its last frame; of those before it, nothing is counted but their lines."""
    path = tmp_path / "lightning.log"
    path.write_text(bar_of([0, 1, 2], between).strip() + "\n", encoding="utf-8")
    run = load_run(path)
    assert {name: series.values.tolist() for name, series in run.metrics.items() if name != "data/epoch"} == {
        "policy/total_loss": [0.5, 1.5, 2.5],
        "acc": [0.9, 0.9, 0.9],
    }
    assert run.restarts == ()
    assert run.coverage.num_unnamed == 9  # the percentage, the counter and the rate of three frames
    assert (run.coverage.num_metric_lines, run.coverage.num_lines) == (num_lines, num_lines)
    main(["monitor", "check", str(path)])
    assert f"on {num_lines} of {num_lines} line" in capsys.readouterr().out
    page = tmp_path / "report.html"
    assert main(["monitor", "report", str(path), "--output", str(page)]) == 0
    assert f"100.0 % of {num_lines} line" in page.read_text(encoding="utf-8")


def test_a_bar_whose_epoch_goes_back_is_a_restart(tmp_path: Path) -> None:
    """One, however many frames the epoch has."""
    path = tmp_path / "lightning.log"
    path.write_text(bar_of([0, 1, 2, 1, 2], "\r") + "\n", encoding="utf-8")
    assert load_run(path).restarts == (1,)


def test_lines_of_all_processes_hold_metrics(tmp_path: Path) -> None:
    """Also those of ranks of which one counts."""
    path = tmp_path / "ranks.log"
    lines = [f"[rank{rank}] step {step} loss {step}.{rank} reward 1\n" for step in range(1, 9) for rank in range(2)]
    path.write_text("".join(lines) + TEXT, encoding="utf-8")
    coverage = load_run(path).coverage
    assert (coverage.num_metric_lines, coverage.num_lines) == (16, 25)


@pytest.mark.parametrize(
    ("line", "key"),
    [("step={0} reward=0.5", "reward"), ("iter {0}: loss 2.33, time 50.76ms, mfu 30.11%", "loss")],
)
def test_one_metric_alone_is_told_and_decides_nothing(
    tmp_path: Path, line: str, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is exit 3, with what was seen and what to add; its lines are counted as lines that were not read."""
    path = tmp_path / "one.log"
    path.write_text("".join(line.format(n) + "\n" for n in range(30)) + TEXT, encoding="utf-8")
    assert main(["monitor", "check", str(path)]) == 3
    said = " ".join(capsys.readouterr().out.split())
    assert f"one metric alone is too little to tell a trainer's log by: {key}, on 30 of 39 lines" in said
    assert "print a second metric on the lines of each step" in said
    assert "no metric recognised" not in said
    assert main(["monitor", "check", str(path), "--json"]) == 3
    coverage = json.loads(capsys.readouterr().out)["coverage"]
    assert (coverage["lines"], coverage["missed_lines"], coverage["unrecognised"]) == (39, 30, [key])
    assert (coverage["metrics"], coverage["metric_lines"]) == ([], 0)


def test_several_metrics_that_never_meet_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each on lines of its own."""
    path = tmp_path / "apart.log"
    path.write_text("".join(f"step={n} loss=0.5\nstep={n} reward=0.25\n" for n in range(5)) + TEXT, encoding="utf-8")
    assert main(["monitor", "check", str(path)]) == 3
    said = " ".join(capsys.readouterr().out.split())
    assert "too little to tell a trainer's log by: loss, reward, on 10 of 19 lines, but no two" in said


def test_a_log_without_any_metric_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A network's loss is no metric; the lines that were read in vain are counted."""
    path = tmp_path / "network.log"
    path.write_text("".join(f"step={n} packets=9 loss=0.5 jitter=3\n" for n in range(30)), encoding="utf-8")
    assert main(["monitor", "check", str(path), "--json"]) == 3
    document = json.loads(capsys.readouterr().out)
    assert "no metric recognised in 30 lines" in document["runs"][0]["reason"]
    assert (document["coverage"]["lines"], document["coverage"]["unrecognised"]) == (30, [])
