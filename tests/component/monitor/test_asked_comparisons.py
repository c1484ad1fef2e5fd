"""What an option asks to be compared, and can't be: the check says so, and does not pass."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orz_cli.main import main
from orz_monitor.testing import healthy_metrics, step_records, write_run

pytestmark = pytest.mark.component


def lines_of_verl(first: int, metric: str = "critic/score/mean") -> str:
    """Write a verl log of 30 healthy steps, the first of them numbered `first`, whose metric rises from 0.3 to 0.6."""
    values = 0.3 + 0.01 * np.arange(30) + 0.01 * np.random.default_rng(0).standard_normal(30)
    return "".join(f"step:{first + i} - {metric}:{value:.4f} - actor/grad_norm:0.4\n" for i, value in enumerate(values))


def checked(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    """Return the exit code of a check and its JSON document."""
    code = main(["monitor", "check", *arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("first", "metric", "reason"),
    [
        (1001, "critic/score/mean", "no steps in common, 1 to 30 against 1001 to 1030"),
        (1, "actor/entropy", "no metric in common of those that are compared"),
    ],
)
def test_a_baseline_with_nothing_to_compare_is_no_pass(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], first: int, metric: str, reason: str
) -> None:
    """Neither of other steps nor of other metrics: exit 3, with the reason; without the option the run passes."""
    run, baseline = tmp_path / "run.log", tmp_path / "baseline.log"
    run.write_text(lines_of_verl(1), encoding="utf-8")
    baseline.write_text(lines_of_verl(first, metric), encoding="utf-8")
    assert checked(capsys, str(run))[0] == 0
    code, document = checked(capsys, str(run), "--baseline", str(baseline))
    assert (3, "inconclusive") == (code, document["status"])
    assert [reason] == [item["reason"] for item in document["not_evaluated"] if item["code"] == "regression"]
    assert f"can't tell whether the run does as well as baseline.log: {reason}" in document["runs"][0]["reason"]


def test_one_step_in_common_is_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Step 30 is the last of one run and the first of the other: that is a comparison."""
    run, baseline = tmp_path / "run.log", tmp_path / "baseline.log"
    for path, first in ((run, 1), (baseline, 30)):
        path.write_text(lines_of_verl(first), encoding="utf-8")
    code, document = checked(capsys, str(run), "--baseline", str(baseline))
    assert (0, []) == (code, [item for item in document["not_evaluated"] if item["code"] == "regression"])


def test_a_failed_run_fails_whatever_it_is_compared_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An error that was found counts more than a comparison that could not be made."""
    metrics = healthy_metrics(60)
    good = write_run(tmp_path / "good", step_records(healthy_metrics(40), first_step=1001))
    metrics["policy/loss"][40:] = np.nan
    bad = write_run(tmp_path / "bad", step_records(metrics))
    code, document = checked(capsys, str(bad), "--baseline", str(good))
    assert (1, "failed") == (code, document["status"])


@pytest.mark.parametrize(
    ("first", "metric", "reason"),
    [
        (5000, "critic/score/mean", "no step of the course, which goes from 0 to 220"),
        (1, "actor/entropy", "not logged: reward/mean or rollout/response_tokens_mean"),
    ],
)
def test_a_course_that_a_run_has_no_part_of_is_no_pass(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], first: int, metric: str, reason: str
) -> None:
    """ORZ's curves of 0.5B end at step 220, and are of reward and length."""
    run = tmp_path / "run.log"
    run.write_text(lines_of_verl(first, metric), encoding="utf-8")
    code, document = checked(capsys, str(run), "--envelope", "orz-0.5b")
    assert (3, [reason]) == (
        code,
        [item["reason"] for item in document["not_evaluated"] if item["code"] == "envelope"],
    )


def test_text_and_other_formats_tell_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first line of text is no `ok`, and GitHub gets an annotation."""
    run, baseline = tmp_path / "run.log", tmp_path / "baseline.log"
    for path, first in ((run, 1), (baseline, 1001)):
        path.write_text(lines_of_verl(first), encoding="utf-8")
    said = {}
    for name in ("text", "github", "junit", "sarif"):
        assert main(["monitor", "check", str(run), "--baseline", str(baseline), "--format", name]) == 3
        said[name] = capsys.readouterr().out
        assert "no steps in common, 1 to 30 against 1001 to 1030" in said[name]
    assert said["text"].startswith("could not decide")
    assert said["github"].startswith("::error")
