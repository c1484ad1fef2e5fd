"""`orz monitor compare`, as a user runs it."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from orz_cli.main import main
from orz_monitor.testing import healthy_metrics, step_records, write_run

pytestmark = pytest.mark.component


@pytest.fixture
def runs(tmp_path: Path) -> list[str]:
    """Two runs of different seeds, and one whose reward is lower by 0.3."""
    worse = healthy_metrics(60, seed=3)
    worse["reward/mean"] -= 0.3
    made = {"a": healthy_metrics(60, seed=1), "b": healthy_metrics(60, seed=2), "worse": worse}
    return [str(write_run(tmp_path / name, step_records(metrics))) for name, metrics in made.items()]


def test_runs_of_two_seeds_hardly_differ(runs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """And one with a lower reward does, by more than noise."""
    assert main(["monitor", "compare", runs[0], runs[1]]) == 0
    out = capsys.readouterr().out
    assert "steps 0 to 59" in out
    assert "reward/mean" not in out
    assert main(["monitor", "compare", runs[0], runs[2]]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("reward/mean ")]
    assert "sigma" in line
    assert " -" in line
    assert main(["monitor", "compare", runs[0], runs[0], "--all"]) == 0
    assert "sigma" not in capsys.readouterr().out


def test_all_metrics_on_request(runs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """--all lists what does not differ, too."""
    assert main(["monitor", "compare", *runs, "--all", "--by", "tokens"]) == 0
    out = capsys.readouterr().out
    assert "tokens trained on" in out
    for name in ("policy/entropy", "reward/mean", "seconds/total"):
        assert name in out


def test_the_page(runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One file with a chart a metric and a line a run."""
    page = tmp_path / "compared.html"
    assert main(["monitor", "compare", *runs, "-o", str(page), "--by", "time"]) == 0
    assert capsys.readouterr().out.endswith(f"{page}\n")
    text = page.read_text()
    assert text.count("<figure") > 20
    assert text.count('class="line r2"') >= text.count("<figure")


def test_the_page_is_there_when_nobody_reads_the_text(
    runs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with `orz monitor compare A B -o page.html | head`."""

    def gone(*_given: object, **_named: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("orz_monitor.compare.text.print_comparison", gone)
    page = tmp_path / "compared.html"
    assert main(["monitor", "compare", *runs, "-o", str(page)]) == 3
    assert "<figure" in page.read_text()


def test_a_log_that_ends_early_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The text says so, and the page."""
    text = "".join(f"step:{step} - actor/pg_loss:{step**0.5}\n" for step in range(2000)).encode()
    whole, torn = tmp_path / "whole.log", tmp_path / "torn.log.gz"
    whole.write_bytes(text)
    torn.write_bytes(gzip.compress(text)[:5000])
    page = tmp_path / "compared.html"
    assert main(["monitor", "compare", str(whole), str(torn), "-o", str(page)]) == 0
    said = f"not all was read: {torn} ends in the middle, and was read up to there"
    assert said in capsys.readouterr().out.splitlines()
    assert said in page.read_text()
    assert main(["monitor", "compare", str(whole), str(whole), "-o", str(page)]) == 0
    assert "not all was read" not in capsys.readouterr().out + page.read_text()


def test_wrong_usage(runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One run, a page of another kind, a run that is none."""
    assert main(["monitor", "compare", runs[0]]) == 2
    assert main(["monitor", "compare", *runs, "-o", str(tmp_path / "x.pdf")]) == 2
    assert main(["monitor", "compare", runs[0], str(tmp_path / "missing")]) == 3
    assert "Traceback" not in capsys.readouterr().err
