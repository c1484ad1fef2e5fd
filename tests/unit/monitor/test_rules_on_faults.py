"""Each rule on a healthy run with its fault, and on the healthy run itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from orz_cli.findings import Severity, Status
from orz_monitor.engine import Verdict, judge
from orz_monitor.loading import load_run
from orz_monitor.records import EventRecord
from orz_monitor.rules import RULES
from orz_monitor.stats import Array
from orz_monitor.testing import healthy_metrics, step_records, write_run

pytestmark = pytest.mark.unit

Metrics = dict[str, Array]
NUM_STEPS = 100


def noise(count: int, sigma: float = 0.02) -> Array:
    return sigma * np.random.default_rng(7).standard_normal(count)


def judged(folder: Path, metrics: Metrics) -> Verdict:
    records = step_records(metrics)
    write_run(folder, records)
    return judge(load_run(folder, now=records[-1].time + 5))


def severities(verdict: Verdict) -> dict[str, Severity]:
    return {finding.code: finding.severity for finding in reversed(verdict.findings)}


def set_reward(metrics: Metrics, begin: int, values: Array) -> None:
    metrics["reward/mean"][begin:] = values
    metrics["reward/solved_frac"] = metrics["reward/mean"]


def nan_loss(m: Metrics) -> None:
    m["policy/loss"][70:] = np.nan


def one_infinite_kl(m: Metrics) -> None:
    m["policy/kl_ref"][70] = np.inf


def nan_at_the_end(m: Metrics) -> None:
    m["policy/entropy"][-1] = np.nan


def guarded_nan(m: Metrics) -> None:
    m["policy/grad_norm"][95] = np.nan
    m["policy/skipped_updates"][95] = 1


def skipped_in_a_row(m: Metrics) -> None:
    m["critic/skipped_updates"][95:98] = 2


def entropy_collapse(m: Metrics) -> None:
    m["policy/entropy"][40:] = m["policy/entropy"][40] * np.exp(-np.arange(60) / 6) + 0.003
    set_reward(m, 40, 0.5 + noise(60))


def entropy_halves_at_once(m: Metrics) -> None:
    m["policy/entropy"][:] = 0.8 * (1 + noise(NUM_STEPS))
    m["policy/entropy"][60:] *= 0.4
    set_reward(m, 0, 0.5 + noise(NUM_STEPS))


def entropy_climbs(m: Metrics) -> None:
    m["policy/entropy"][60:] = np.linspace(0.25, 1.5, 40)
    set_reward(m, 60, np.linspace(0.7, 0.3, 40) + noise(40))


def kl_blow_up(m: Metrics) -> None:
    m["policy/kl_ref"][50:] = 0.1 * 2 ** (np.arange(50) / 6)
    set_reward(m, 50, 0.6 + noise(50))


def kl_drifts(m: Metrics) -> None:
    m["policy/kl_ref"][50:] = 0.05 + np.linspace(0, 0.8, 50)
    set_reward(m, 30, 0.45 + noise(70))


def kl_spikes(m: Metrics) -> None:
    m["policy/kl_ref"][[30, 60, 90]] = 4.0


def updates_too_large(m: Metrics) -> None:
    m["policy/kl_old"][60:] = 0.3
    set_reward(m, 50, 0.6 + noise(50))


def reward_gone(m: Metrics) -> None:
    set_reward(m, 70, np.abs(0.03 + noise(30, 0.01)))


def reward_halved(m: Metrics) -> None:
    set_reward(m, 70, 0.4 + noise(30))


def reward_stuck_at_zero(m: Metrics) -> None:
    set_reward(m, 0, np.zeros(NUM_STEPS))


def rewards_time_out(m: Metrics) -> None:
    m["reward/timeout_frac"][80:] = m["reward/unscored_frac"][80:] = 0.6


def nothing_scored(m: Metrics, steps: slice = slice(None)) -> None:
    m["reward/unscored_frac"][steps] = m["reward/error_frac"][steps] = 1
    for name in ("reward/mean", "reward/std", "reward/solved_frac", "rollout/zero_variance_frac"):
        m[name] = m[name].copy()  # some of them share one array
        m[name][steps] = np.nan
    for name in ("return/mean", "advantage/abs_mean", "critic/value_mean"):
        m[name] = m["reward/mean"].copy()


def one_step_unscored(m: Metrics) -> None:
    nothing_scored(m, slice(95, 96))


def truncation_ramp(m: Metrics) -> None:
    m["rollout/truncated_frac"][60:] = np.linspace(0.02, 0.8, 40)
    set_reward(m, 60, np.linspace(0.75, 0.4, 40) + noise(40))


def length_explodes(m: Metrics) -> None:
    m["rollout/response_tokens_mean"][80:] = 20 * 1.08 ** np.arange(20)
    m["rollout/truncated_frac"][80:] = np.linspace(0.02, 0.09, 20)
    set_reward(m, 60, 0.6 + noise(40))


def length_collapses(m: Metrics) -> None:
    m["rollout/response_tokens_mean"][70:] = 4.0
    set_reward(m, 70, np.linspace(0.7, 0.2, 30) + noise(30))


def no_signal(m: Metrics) -> None:
    for name in [name for name in m if name.startswith("critic/")]:
        del m[name]
    m["rollout/zero_variance_frac"][:] = 0.95
    set_reward(m, 0, 0.4 + noise(NUM_STEPS))


def sampler_disagrees(m: Metrics) -> None:
    m["mismatch/logprob_abs_mean"][80:] = 0.5


def sampler_drifts_away(m: Metrics) -> None:
    m["mismatch/logprob_abs_mean"][:] = np.geomspace(1e-3, 0.04, NUM_STEPS)


def sampler_disagrees_in_probabilities(m: Metrics) -> None:
    del m["mismatch/logprob_abs_mean"]
    m["mismatch/prob_abs_mean"] = np.geomspace(0.01, 0.16, NUM_STEPS)


def sampler_probabilities_leave_their_band(m: Metrics) -> None:
    del m["mismatch/logprob_abs_mean"]
    m["mismatch/prob_abs_mean"] = np.full(NUM_STEPS, 0.001)
    m["mismatch/prob_abs_mean"][80:] = np.geomspace(0.001, 0.008, 20)


def critic_fails(m: Metrics) -> None:
    m["critic/explained_var"][40:] = -3.0
    set_reward(m, 40, 0.5 + noise(60))


FAULTS: list[tuple[Callable[[Metrics], None], str, Severity]] = [
    (nan_loss, "nonfinite", Severity.ERROR),
    (one_infinite_kl, "nonfinite", Severity.WARN),
    (nan_at_the_end, "nonfinite", Severity.ERROR),
    (guarded_nan, "skipped_updates", Severity.WARN),
    (skipped_in_a_row, "skipped_updates", Severity.ERROR),
    (entropy_collapse, "entropy_low", Severity.WARN),
    (entropy_halves_at_once, "entropy_fast", Severity.WARN),
    (entropy_climbs, "entropy_high", Severity.ERROR),
    (kl_blow_up, "kl_drift", Severity.ERROR),
    (kl_drifts, "kl_drift", Severity.WARN),
    (kl_spikes, "kl_spike", Severity.INFO),
    (updates_too_large, "kl_old", Severity.ERROR),
    (reward_gone, "reward_drop", Severity.ERROR),
    (reward_halved, "reward_drop", Severity.WARN),
    (reward_stuck_at_zero, "reward_floor", Severity.ERROR),
    (rewards_time_out, "reward_unscored", Severity.ERROR),
    (nothing_scored, "reward_unscored", Severity.ERROR),
    (one_step_unscored, "reward_unscored", Severity.WARN),
    (truncation_ramp, "truncation", Severity.ERROR),
    (length_explodes, "length_growth", Severity.WARN),
    (length_collapses, "length_collapse", Severity.WARN),
    (no_signal, "zero_variance", Severity.ERROR),
    (sampler_disagrees, "mismatch", Severity.ERROR),
    (sampler_drifts_away, "mismatch", Severity.WARN),
    (sampler_disagrees_in_probabilities, "mismatch", Severity.ERROR),
    (sampler_probabilities_leave_their_band, "ramp", Severity.WARN),
    (critic_fails, "explained_variance", Severity.ERROR),
]


@pytest.mark.parametrize(("fault", "code", "severity"), FAULTS, ids=[fault.__name__ for fault, _, _ in FAULTS])
def test_a_fault_is_found(tmp_path: Path, fault: Callable[[Metrics], None], code: str, severity: Severity) -> None:
    """The rule made for a fault finds it, once, at its severity, with evidence, causes and a place."""
    metrics = healthy_metrics(NUM_STEPS)
    fault(metrics)
    verdict = judged(tmp_path, metrics)
    assert severity == severities(verdict).get(code)
    (finding,) = (finding for finding in verdict.findings if finding.code == code)
    assert finding.evidence
    assert finding.causes
    assert finding.remedy
    assert finding.first_step is not None
    assert finding.last_step is not None
    assert finding.first_step <= finding.last_step
    assert finding.line == finding.first_step + 2  # the start event is line 1, step 0 line 2
    assert (severity is Severity.ERROR) == (verdict.status() is Status.FAILED)


@pytest.mark.parametrize(
    ("gap", "limit", "first", "last", "severity"),
    [
        (0.004, 1e-3, 80, 99, Severity.WARN),
        (0.004, 1e-3, 40, 40, Severity.INFO),  # over by the end
        (0.02, 1e-3, 80, 99, Severity.ERROR),
        (0.12, 0.1, 99, 99, Severity.WARN),
    ],
)
def test_a_gap_that_the_run_warned_of_is_found(
    tmp_path: Path, gap: float, limit: float, first: int, last: int, severity: Severity
) -> None:
    """The limit of the run's precision holds, for a single step too; without the warning less or nothing is found."""
    metrics = healthy_metrics(NUM_STEPS)
    metrics["mismatch/logprob_abs_mean"][first : last + 1] = gap
    assert severity != severities(judged(tmp_path / "silent", metrics)).get("mismatch")
    said = {"message": "step 80: sampler and trainer differ", "metric": "mismatch/logprob_abs_mean", "limit": limit}
    records = step_records(metrics)
    warning = EventRecord(event="warning", time=records[first].time, step=first, data=said)
    write_run(tmp_path / "warned", [*records[:first], warning, *records[first:]])
    verdict = judge(load_run(tmp_path / "warned", now=records[-1].time + 5))
    (finding,) = (finding for finding in verdict.findings if finding.code == "mismatch")
    assert (severity, first, last) == (finding.severity, finding.first_step, finding.last_step)
    assert str(min(limit, 0.05)) in finding.message


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("num_steps", [1, 2, 5, 20, 60, 300])
def test_a_healthy_run_is_quiet(tmp_path: Path, num_steps: int, seed: int) -> None:
    """No error and no warning while reward climbs to 0.95, entropy falls fivefold and groups are solved."""
    verdict = judged(tmp_path, healthy_metrics(num_steps, seed=seed))
    assert [(f.code, f.message) for f in verdict.findings if f.severity is not Severity.INFO] == []
    assert verdict.status(Severity.WARN) is Status.OK


def test_the_healthy_run_is_as_frightening_as_it_says(tmp_path: Path) -> None:
    """The quiet run does contain what rules of one metric would fire on."""
    metrics = healthy_metrics(60)
    assert metrics["reward/mean"][:5].mean() < 0.36
    assert metrics["reward/mean"][-5:].mean() > 0.92
    assert metrics["policy/entropy"][-5:].mean() < metrics["policy/entropy"][:5].mean() / 4
    assert metrics["rollout/zero_variance_frac"][-5:].mean() > 0.85


@pytest.mark.parametrize("num_steps", [1, 2, 3, 60])
def test_a_run_without_any_score_has_one_finding(tmp_path: Path, num_steps: int) -> None:
    """Rewards are NaN by definition there: it is the reward function, no overflow, and no metric was left out."""
    metrics = healthy_metrics(num_steps)
    nothing_scored(metrics)
    verdict = judged(tmp_path, metrics)
    (finding,) = verdict.findings
    assert ("reward_unscored", Severity.ERROR) == (finding.code, finding.severity)
    assert ["the reward function raises, or returns something that is no finite number"] == [
        cause.what for cause in finding.causes
    ]
    reasons = {item.code: item.reason for item in verdict.not_evaluated}
    assert "no finite value of reward/mean" == reasons["reward_floor"]
    assert [] == [reason for reason in reasons.values() if "not logged: reward" in reason]


def test_what_explains_other_findings_stands_before_them(tmp_path: Path) -> None:
    """Steps without a score and a NaN loss: both are found, the missing scores first."""
    metrics = healthy_metrics(60)
    nothing_scored(metrics, slice(50, 60))
    metrics["policy/loss"][52:] = np.nan
    verdict = judged(tmp_path, metrics)
    assert ["reward_unscored", "nonfinite"] == [finding.code for finding in verdict.findings]
    assert "policy/loss was NaN in 8 steps from 52 to 59." == verdict.findings[1].message


def test_a_reward_of_nan_blames_the_reward_function(tmp_path: Path) -> None:
    """Where scores are there and not finite, the reward comes first and explains what follows from it."""
    metrics = healthy_metrics(60)
    for name in ("policy/loss", "critic/loss", "reward/mean"):
        metrics[name][50:] = np.nan
    (finding,) = (finding for finding in judged(tmp_path, metrics).findings if finding.code == "nonfinite")
    assert finding.message.startswith("reward/mean was NaN in 10 steps from 50 to 59 (then reward/solved_frac, ")
    assert ["the reward function returned NaN or infinity"] == [cause.what for cause in finding.causes]


def test_an_infinite_reward_is_found_without_scores_too(tmp_path: Path) -> None:
    """Only NaN is the mean of nothing."""
    metrics = healthy_metrics(60)
    nothing_scored(metrics, slice(50, 60))
    metrics["reward/mean"][50:] = np.inf
    assert "nonfinite" in severities(judged(tmp_path, metrics))


def test_causes_of_missing_scores_are_those_that_occurred(tmp_path: Path) -> None:
    """Errors early in the run don't explain the time-outs at its end."""
    metrics = healthy_metrics(100)
    metrics["reward/error_frac"][:10] = 1
    metrics["reward/timeout_frac"][80:] = metrics["reward/unscored_frac"][80:] = 0.3
    (finding,) = judged(tmp_path, metrics).findings
    assert ["the reward function runs into its time limit"] == [cause.what for cause in finding.causes]


def test_entropy_that_is_all_but_gone_is_a_warning_also_in_a_solved_run(tmp_path: Path) -> None:
    """Below a hundredth of a nat nothing excuses it, not even full reward."""
    metrics = healthy_metrics(200)
    metrics["policy/entropy"][:] = np.geomspace(0.9, 0.002, 200)
    set_reward(metrics, 0, np.concatenate([np.linspace(0.3, 0.97, 60), np.full(140, 0.97)]))
    assert severities(judged(tmp_path, metrics)) == {"entropy_low": Severity.WARN}


def test_a_constant_full_reward_is_solved_not_stuck(tmp_path: Path) -> None:
    """A reward of exactly 1 in every step is no broken reward function."""
    metrics = healthy_metrics(60)
    set_reward(metrics, 0, np.ones(60))
    assert "reward_floor" not in severities(judged(tmp_path, metrics))


def test_a_fall_that_mends_itself_is_milder(tmp_path: Path) -> None:
    """A collapse of twenty steps that went back up does not fail a check."""
    metrics = healthy_metrics(200)
    metrics["reward/mean"][100:120] = 0.01
    assert severities(judged(tmp_path, metrics)) == {"reward_drop": Severity.WARN}


def test_what_is_not_logged_is_said(tmp_path: Path) -> None:
    """A rule without its metric is listed with the reason; critic rules don't concern a run without critic."""
    metrics = {name: values for name, values in healthy_metrics(30, critic=False).items() if "entropy" not in name}
    verdict = judged(tmp_path, metrics)
    reasons = {item.code: item.reason for item in verdict.not_evaluated}
    assert reasons["entropy_low"] == "not logged: policy/entropy"
    assert "explained_variance" not in reasons
    assert {rule.code for rule in verdict.passed}.isdisjoint(reasons)


def test_too_few_steps_are_said(tmp_path: Path) -> None:
    """Rules that need a course don't judge three steps, and don't count as passed."""
    verdict = judged(tmp_path, healthy_metrics(3))
    reasons = {item.code: item.reason for item in verdict.not_evaluated}
    assert "3 of policy/entropy" in reasons["entropy_low"]
    assert verdict.status() is Status.OK


def test_every_rule_has_a_fault_that_proves_it() -> None:
    """No rule is shipped untested: each is named by a test of rules on faults."""
    text = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_rules_on_*.py"))
    assert [rule.code for rule in RULES if f'"{rule.code}"' not in text] == []
