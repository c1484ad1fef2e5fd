"""What rules make of the trainer that wrote a log: its settings, names and limits, and how it logs what they need."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from orz_cli.findings import Severity
from orz_monitor.engine import Verdict, judge
from orz_monitor.formats.document import Checked
from orz_monitor.formats.text import print_checks
from orz_monitor.loading import load_run
from orz_monitor.stats import Array
from orz_monitor.testing import healthy_metrics, step_records, write_run

pytestmark = pytest.mark.unit

NUM_STEPS = 120


def judged(folder: Path, metrics: dict[str, Array], *, framework: str, config: dict[str, str] | None = None) -> Verdict:
    run = load_run(write_run(folder, step_records(metrics)))
    return judge(replace(run, framework=framework, config=config or {}))


def rendered(verdict: Verdict) -> list[str]:
    console = Console(file=io.StringIO(), width=400)
    print_checks(console, [Checked(path=Path("run"), verdict=verdict)], Severity.ERROR)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def codes(verdict: Verdict) -> set[str]:
    return {finding.code for finding in verdict.findings}


def test_the_limit_of_a_divergence_is_nemo_rls_own_where_it_wrote_the_log(tmp_path: Path) -> None:
    """A KL of 0.003 is usual elsewhere, and above the 0.001 of its guide."""
    metrics = healthy_metrics(NUM_STEPS)
    metrics["mismatch/kl_k1"] = np.full(NUM_STEPS, 0.003)
    assert "mismatch_measures" not in codes(judged(tmp_path / "verl", metrics, framework="verl"))
    assert "mismatch_measures" in codes(judged(tmp_path / "nemo", metrics, framework="nemo-rl"))


def test_a_setting_is_known_by_the_name_of_the_trainer(tmp_path: Path) -> None:
    """The clip of gradients and the limit of tokens have other names in verl, which say nothing to another trainer."""
    metrics = healthy_metrics(NUM_STEPS)
    metrics["policy/grad_norm"] = np.full(NUM_STEPS, 2.0)
    metrics["rollout/response_tokens_max"] = np.full(NUM_STEPS, 17.0)
    config = {"actor_rollout_ref.actor.grad_clip": "1.0", "data.max_response_length": "16"}
    of_verl = judged(tmp_path / "verl", metrics, framework="verl", config=config)
    assert {"grad_clip", "invariants"} <= codes(of_verl)
    found = {finding.code: finding for finding in of_verl.findings}
    assert found["grad_clip"].evidence[0].baseline_is == "actor_rollout_ref.actor.grad_clip"
    assert "was 17, above data.max_response_length=16, in" in found["invariants"].message
    of_trl = judged(tmp_path / "trl", metrics, framework="trl", config=config)
    assert not {"grad_clip", "invariants"} & codes(of_trl)
    (unjudged,) = (item for item in of_trl.not_evaluated if item.code == "grad_clip")
    assert unjudged.reason == "the setting max_grad_norm is not known"


def test_where_a_setting_is_not_known_it_says_where_it_is_read_from(tmp_path: Path) -> None:
    """One line of the report, with one colon; where the metric is missing, that is told instead."""
    metrics = healthy_metrics(NUM_STEPS)
    lines = rendered(judged(tmp_path / "whole", metrics, framework="verl"))
    (told,) = (line.strip() for line in lines if line.endswith(": grad_clip"))
    assert told == (
        "not evaluated, the setting actor_rollout_ref.actor.grad_clip is not known "
        "(give a run folder with config.yaml, or the run of W&B, MLflow or Trackio, which hold the settings): grad_clip"
    )
    del metrics["policy/grad_norm"]
    verdict = judged(tmp_path / "part", metrics, framework="slime")
    (unjudged,) = (item for item in verdict.not_evaluated if item.code == "grad_clip")
    assert (unjudged.reason, "config.yaml" in unjudged.remedy) == ("not logged: policy/grad_norm", False)


@pytest.mark.parametrize(
    ("configured", "is_found"), [("16", True), ("17", False), ("²", False), ("-1", False), ("none", False)]
)
def test_the_limit_of_tokens_is_a_number_above_0(tmp_path: Path, configured: str, *, is_found: bool) -> None:
    """What else stands there is no limit, and no reason to fail; -1 stands for none."""
    metrics = healthy_metrics(NUM_STEPS)
    metrics["rollout/response_tokens_max"] = np.full(NUM_STEPS, 17.0)
    config = {"generation.max_response_tokens": configured}
    assert ("invariants" in codes(judged(tmp_path, metrics, framework="", config=config))) is is_found


def test_a_mean_log_prob_is_never_above_0(tmp_path: Path) -> None:
    """The log of a probability above 1."""
    metrics = healthy_metrics(NUM_STEPS)
    metrics["policy/logprob_mean"] = np.full(NUM_STEPS, -0.3)
    assert "invariants" not in codes(judged(tmp_path / "healthy", metrics, framework="slime"))
    metrics["policy/logprob_mean"][50] = 0.2
    verdict = judged(tmp_path / "sick", metrics, framework="slime")
    (finding,) = (finding for finding in verdict.findings if finding.code == "invariants")
    assert "policy/logprob_mean was 0.2, above 0" in finding.message


@pytest.mark.parametrize(
    ("framework", "code", "how"),
    [
        ("openrlhf", "mismatch_measures", "--algo.advantage.is_correction_enable"),
        ("slime", "mismatch", "--get-mismatch-metrics"),
        ("nemo-rl", "kl_drift", "train/kl_penalty"),
        ("skyrl", "kv_full", "SKYRL_LOG_FILE"),
        ("verl", "kv_full", "engine's own lines"),
    ],
)
def test_a_rule_that_could_not_judge_says_how_its_metrics_are_logged(
    tmp_path: Path, framework: str, code: str, how: str
) -> None:
    """As the dialect of each trainer knows it, whichever of the metrics that would do it is."""
    metrics = {name: values for name, values in healthy_metrics(NUM_STEPS).items() if name.startswith("reward/")}
    verdict = judged(tmp_path, metrics, framework=framework)
    (unjudged,) = (item for item in verdict.not_evaluated if item.code == code)
    assert unjudged.reason.startswith("not logged: ")
    assert how in unjudged.remedy
