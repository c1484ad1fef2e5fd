"""The rules of updates, values, rewards and rates on a healthy run with their fault."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from orz_cli.findings import Severity
from orz_monitor.engine import Verdict, judge
from orz_monitor.loading import load_run
from orz_monitor.stats import Array
from orz_monitor.testing import healthy_metrics, step_records, write_run

pytestmark = pytest.mark.unit

Metrics = dict[str, Array]
NUM_STEPS = 120


def noise(sigma: float, count: int = NUM_STEPS) -> Array:
    return sigma * np.random.default_rng(3).standard_normal(count)


def judged(folder: Path, metrics: Metrics) -> Verdict:
    records = step_records(metrics)
    return judge(load_run(write_run(folder, records), now=records[-1].time + 5))


def flat_reward(m: Metrics) -> None:
    m["reward/mean"] = m["reward/solved_frac"] = 0.5 + noise(0.02)


def kl_stays_zero(m: Metrics) -> None:
    m["policy/kl_ref"][:] = 0
    m["policy/lr"] = np.full(NUM_STEPS, 1e-6)


def much_is_clipped(m: Metrics) -> None:
    m["policy/clip_frac"] = np.full(NUM_STEPS, 0.01)
    m["policy/clip_frac"][90:] = 0.6
    flat_reward(m)


def ratio_is_off(m: Metrics) -> None:
    m["policy/ratio_mean"] = np.ones(NUM_STEPS)
    m["policy/ratio_mean"][100:] = 0.7
    flat_reward(m)


def a_ratio_is_extreme(m: Metrics) -> None:
    m["policy/ratio_max"] = np.full(NUM_STEPS, 1.3)
    m["policy/ratio_max"][100:] = 5e8
    flat_reward(m)


def gradients_leap(m: Metrics) -> None:
    m["policy/grad_norm"] = 0.4 * np.exp(noise(0.2))
    m["policy/grad_norm"][115:] *= 10


def gradients_leapt_and_stay(m: Metrics) -> None:
    m["policy/grad_norm"][50:] *= 10


def gradients_leapt_and_came_back(m: Metrics) -> None:
    m["policy/grad_norm"][50:60] *= 10


def a_gradient_leaps(m: Metrics) -> None:
    m["policy/grad_norm"] = 0.4 * np.exp(noise(0.2))
    m["policy/grad_norm"][60] *= 10


def no_gradient(m: Metrics) -> None:
    m["policy/grad_norm"] = np.full(NUM_STEPS, 0.4)
    m["policy/grad_norm"][110:] = 0
    m["reward/std"] = np.full(NUM_STEPS, 0.3)


def no_advantage(m: Metrics) -> None:
    m["reward/std"] = np.full(NUM_STEPS, 0.3)
    m["advantage/abs_mean"] = np.full(NUM_STEPS, 0.8)
    m["advantage/abs_mean"][110:] = 0
    m["policy/grad_norm"] = m["advantage/abs_mean"].copy()


def loss_leaps(m: Metrics) -> None:
    m["policy/loss"] = noise(0.02)
    m["policy/loss"][117:] = 5.0


def value_loss_grows(m: Metrics) -> None:
    m["critic/loss"] = np.geomspace(0.01, 10, NUM_STEPS)


def values_leave(m: Metrics) -> None:
    m["critic/value_mean"] = m["reward/mean"].copy()
    m["critic/value_mean"][100:] = -16.0
    m["reward/std"] = np.full(NUM_STEPS, 0.3)


def reward_stays(m: Metrics) -> None:
    flat_reward(m)


def evaluation_falls(m: Metrics) -> None:
    reward = np.linspace(0.3, 0.7, NUM_STEPS) + noise(0.01)
    m["reward/mean"] = m["reward/solved_frac"] = reward
    accuracy = np.full(NUM_STEPS, np.nan)
    accuracy[9::10] = [0.3, 0.4, 0.5, 0.5, 0.48, 0.45, 0.4, 0.36, 0.33, 0.3, 0.28, 0.27]
    m["eval/held-out/accuracy"] = accuracy


def a_part_is_gamed(m: Metrics) -> None:
    m["reward/part/format"] = np.linspace(0.2, 0.95, NUM_STEPS) + noise(0.01)
    m["reward/part/answer"] = np.linspace(0.5, 0.2, NUM_STEPS) + noise(0.01)


def the_pattern_of_gaming(m: Metrics) -> None:
    flat = np.where(np.arange(NUM_STEPS) % 10 == 9, 0.3, np.nan)
    m["eval/held-out/accuracy"] = flat
    m["reward/mean"] = m["reward/solved_frac"] = np.linspace(0.3, 0.8, NUM_STEPS) + noise(0.01)
    m["rollout/response_tokens_mean"] = np.linspace(20, 60, NUM_STEPS)
    m["policy/entropy"] = np.geomspace(1.0, 0.1, NUM_STEPS)


def repeats(m: Metrics) -> None:
    m["rollout/repetition"] = np.full(NUM_STEPS, 0.02)
    m["rollout/repetition"][100:] = 0.3
    flat_reward(m)


def samplers_kl(m: Metrics) -> None:
    m["mismatch/kl_k3"] = np.full(NUM_STEPS, 0.05)
    m["mismatch/kl_k3"][100:] = 0.2


def samplers_correlation(m: Metrics) -> None:
    m["mismatch/prob_corr"] = np.full(NUM_STEPS, 0.998)
    m["mismatch/prob_corr"][100:] = 0.9


def samplers_divergence(m: Metrics) -> None:
    m["mismatch/js"] = np.full(NUM_STEPS, 2e-4)
    m["mismatch/js"][100:] = 3e-3


def samplers_kl_grows(m: Metrics) -> None:
    m["mismatch/kl_k3"] = 2e-3 * np.exp(noise(0.1))
    m["mismatch/kl_k3"][60:] *= np.geomspace(1, 20, NUM_STEPS - 60)


def weights_spread(m: Metrics) -> None:
    m["correction/weight_std"] = np.full(NUM_STEPS, 0.1)
    m["correction/weight_std"][100:] = 1.5


def weights_are_cut(m: Metrics) -> None:
    m["correction/clip_frac"] = np.full(NUM_STEPS, 1e-5)
    m["correction/clip_frac"][100:] = 0.1


def old_samples(m: Metrics) -> None:
    m["staleness/max"] = np.full(NUM_STEPS, 1.0)
    m["staleness/max"][100:] = 12.0


def rate_runs_out(m: Metrics) -> None:
    m["policy/lr"] = np.maximum(np.linspace(1e-6, -1e-6, NUM_STEPS), 0)


def rate_leaps(m: Metrics) -> None:
    m["policy/lr"] = np.full(NUM_STEPS, 1e-6)
    m["policy/lr"][60:] = 1e-4


def rate_falls_at_once(m: Metrics) -> None:
    m["policy/lr"] = np.full(NUM_STEPS, 1e-6)
    m["policy/lr"][60:] = 4e-8


def critic_is_slower(m: Metrics) -> None:
    m["policy/lr"] = np.full(NUM_STEPS, 1e-6)
    m["critic/lr"] = np.full(NUM_STEPS, 5e-7)


def rate_is_high(m: Metrics) -> None:
    m["policy/lr"] = np.full(NUM_STEPS, 1e-3)
    m["rollout/response_tokens_mean"] = m["rollout/response_tokens_mean"] * 40


def share_above_one(m: Metrics) -> None:
    m["rollout/truncated_frac"][60] = 1.5


def negative_k3(m: Metrics) -> None:
    m["mismatch/kl_k3"] = np.full(NUM_STEPS, 1e-3)
    m["mismatch/kl_k3"][70:80] = -0.01


FAULTS: list[tuple[Callable[[Metrics], None], str, Severity]] = [
    (kl_stays_zero, "kl_zero", Severity.INFO),
    (much_is_clipped, "clip_frac", Severity.ERROR),
    (ratio_is_off, "ratio", Severity.WARN),
    (a_ratio_is_extreme, "ratio", Severity.ERROR),
    (gradients_leap, "grad_spike", Severity.WARN),
    (gradients_leapt_and_stay, "grad_spike", Severity.WARN),
    (gradients_leapt_and_came_back, "grad_spike", Severity.INFO),
    (a_gradient_leaps, "grad_spike", Severity.INFO),
    (no_gradient, "grad_zero", Severity.ERROR),
    (no_advantage, "advantage_zero", Severity.ERROR),
    (loss_leaps, "loss_spike", Severity.WARN),
    (value_loss_grows, "value_loss", Severity.INFO),
    (values_leave, "values_range", Severity.WARN),
    (reward_stays, "reward_plateau", Severity.INFO),
    (evaluation_falls, "eval_gap", Severity.WARN),
    (a_part_is_gamed, "reward_hack", Severity.WARN),
    (the_pattern_of_gaming, "reward_hack", Severity.WARN),
    (repeats, "repetition", Severity.WARN),
    (samplers_kl, "mismatch_measures", Severity.WARN),
    (samplers_correlation, "mismatch_measures", Severity.WARN),
    (samplers_divergence, "mismatch_measures", Severity.WARN),
    (samplers_kl_grows, "mismatch_measures", Severity.ERROR),
    (weights_spread, "mismatch_measures", Severity.WARN),
    (weights_are_cut, "importance_clip", Severity.WARN),
    (old_samples, "stale", Severity.WARN),
    (rate_runs_out, "learning_rate", Severity.WARN),
    (rate_leaps, "learning_rate", Severity.WARN),
    (rate_falls_at_once, "learning_rate", Severity.WARN),
    (critic_is_slower, "learning_rate", Severity.INFO),
    (rate_is_high, "learning_rate", Severity.INFO),
    (share_above_one, "invariants", Severity.WARN),
    (negative_k3, "invariants", Severity.WARN),
]


@pytest.mark.parametrize(("fault", "code", "severity"), FAULTS, ids=[fault.__name__ for fault, _, _ in FAULTS])
def test_a_fault_is_found(tmp_path: Path, fault: Callable[[Metrics], None], code: str, severity: Severity) -> None:
    """The rule made for a fault finds it, once, with evidence, causes and steps; the run without it is quiet."""
    metrics = healthy_metrics(NUM_STEPS)
    assert code not in {finding.code for finding in judged(tmp_path / "healthy", metrics).findings}
    fault(metrics)
    (finding,) = (finding for finding in judged(tmp_path / "sick", metrics).findings if finding.code == code)
    assert (severity, True) == (finding.severity, bool(finding.evidence and finding.causes and finding.remedy))
    assert finding.first_step is not None
    assert finding.last_step is not None
    assert 0 <= finding.first_step <= finding.last_step < NUM_STEPS


USUAL: dict[str, dict[str, float]] = {
    "advantage_zero": {"advantage/abs_mean": 0.8},
    "mismatch_measures": {"mismatch/kl_k3": 1e-3, "mismatch/prob_corr": 0.998, "mismatch/js": 2e-4},
    "importance_clip": {"correction/clip_frac": 1e-5},
}
"""Rules whose metrics the healthy run above does not log, and values of theirs that are usual."""


@pytest.mark.parametrize(("code", "values"), USUAL.items(), ids=list(USUAL))
def test_usual_values_are_judged_and_pass(tmp_path: Path, code: str, values: dict[str, float]) -> None:
    """The rule has what it needs, looks, and says nothing; nor does any other rule."""
    metrics = healthy_metrics(NUM_STEPS)
    metrics |= {name: np.minimum(value * np.exp(noise(0.01)), max(1.0, value)) for name, value in values.items()}
    verdict = judged(tmp_path, metrics)
    assert code in {rule.code for rule in verdict.passed}
    assert [finding.message for finding in verdict.findings if finding.severity is not Severity.INFO] == []


def test_what_is_absorbed_is_not_said_twice(tmp_path: Path) -> None:
    """Advantages of 0 explain a gradient of 0."""
    metrics = healthy_metrics(NUM_STEPS)
    no_advantage(metrics)
    assert "grad_zero" not in {finding.code for finding in judged(tmp_path, metrics).findings}


def test_a_frozen_policy_may_have_no_gradient(tmp_path: Path) -> None:
    """While only the critic trains, KL and gradient are rightly 0."""
    metrics = healthy_metrics(NUM_STEPS)
    no_gradient(metrics)
    metrics["policy/frozen"] = np.where(metrics["policy/grad_norm"] == 0, 1.0, 0.0)
    assert "grad_zero" not in {finding.code for finding in judged(tmp_path, metrics).findings}


def test_the_last_schedule_step_is_no_fault(tmp_path: Path) -> None:
    """A rate that reaches 0 at the end of a finished run is what a schedule is for."""
    metrics = healthy_metrics(NUM_STEPS)
    metrics["policy/lr"] = np.linspace(1e-6, 0, NUM_STEPS)
    assert "learning_rate" not in {finding.code for finding in judged(tmp_path, metrics).findings}


def test_a_warm_up_is_no_leap(tmp_path: Path) -> None:
    """The rate may grow a hundredfold in the first steps."""
    metrics = healthy_metrics(NUM_STEPS)
    metrics["policy/lr"] = np.minimum(1e-8 * 30.0 ** np.arange(NUM_STEPS), 1e-6)
    assert "learning_rate" not in {finding.code for finding in judged(tmp_path, metrics).findings}


SCHEDULES: dict[str, Array] = {
    "tenths, as binary fractions round them": np.array([1e-5 * 0.1**power for power in range(3)])[np.arange(60) // 20],
    "tenths, as a log prints them": np.array([1e-5, 1e-6, 1e-7])[np.arange(60) // 20],
    "linear in twenty points": 2e-6 * (1 - (np.arange(20) * 30 + 29) / 601),
    "square root in twenty points": 2e-6 * np.sqrt(1 - (np.arange(20) * 30 + 29.75) / 600),
}
"""Rates of whole schedules; the last value of those in twenty points is less than a tenth of the one before."""


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_is_no_leap(tmp_path: Path, name: str) -> None:
    """Tenfold is not more than tenfold, whatever its rounding; a decay nears 0 hardly more steeply than before."""
    metrics = healthy_metrics(len(SCHEDULES[name]))
    metrics["policy/lr"] = SCHEDULES[name]
    assert "learning_rate" not in {finding.code for finding in judged(tmp_path, metrics).findings}


def test_a_fall_out_of_a_decay_is_a_leap(tmp_path: Path) -> None:
    """Far steeper than the decay was: another rate, as after a restart."""
    metrics = healthy_metrics(NUM_STEPS)
    metrics["policy/lr"] = np.linspace(2e-6, 1e-6, NUM_STEPS)
    metrics["policy/lr"][60:] /= 25
    (finding,) = (f for f in judged(tmp_path, metrics).findings if f.code == "learning_rate")
    assert (finding.title, finding.first_step) == ("The learning rate leaps", 60)


def test_gradients_above_the_clip_of_the_configuration_are_noted(tmp_path: Path) -> None:
    """The clip comes from config.yaml; without one nobody knows what is clipped, and the rule says so."""
    metrics = healthy_metrics(NUM_STEPS)
    metrics["policy/grad_norm"] = 2.0 * np.exp(noise(0.1))
    (unjudged,) = (item for item in judged(tmp_path, metrics).not_evaluated if item.code == "grad_clip")
    assert unjudged.reason == "the setting policy.optimizer.max_grad_norm is not known"
    (tmp_path / "config.yaml").write_text("policy:\n  optimizer:\n    max_grad_norm: 1.0\n", encoding="utf-8")
    (finding,) = (f for f in judged(tmp_path, metrics).findings if f.code == "grad_clip")
    assert finding.message == "The gradient norm was above the clip of 1 in 100 % of the steps."


def test_evidence_shows_values_as_they_were_logged(tmp_path: Path) -> None:
    """A ratio of 0.7 is 0.3 off 1, a correlation of 0.9 is 0.1 short of 1: the log says 0.7 and 0.9."""
    logged = ((ratio_is_off, "policy/ratio_mean", 0.7), (samplers_correlation, "mismatch/prob_corr", 0.9))
    for fault, metric, value in logged:
        metrics = healthy_metrics(NUM_STEPS)
        fault(metrics)
        evidence = [e for f in judged(tmp_path / fault.__name__, metrics).findings for e in f.evidence]
        assert [value] == [one.observed for one in evidence if one.metric == metric]


def samplers_weights_are_off(m: Metrics) -> None:
    m["correction/weight_mean"] = np.full(NUM_STEPS, 0.4)


def samplers_k1(m: Metrics) -> None:
    m["mismatch/kl_k1"] = np.full(NUM_STEPS, -0.2)


def samplers_k1_grows(m: Metrics) -> None:
    m["mismatch/kl_k1"] = np.full(NUM_STEPS, -0.001)
    m["mismatch/kl_k1"][100:] = -0.02


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (samplers_kl, "mismatch/kl_k3 was 0.2 in the steps 100 to 119, above the limit of 0.1."),
        (samplers_k1, "mismatch/kl_k1 was -0.2 in the steps 0 to 119, in size above the limit of 0.1."),
        (samplers_correlation, "mismatch/prob_corr was 0.9 in the steps 100 to 119, below the limit of 0.95."),
        (samplers_weights_are_off, "weight_mean was 0.4 in the steps 0 to 119, more than the limit of 2 times off 1."),
        (samplers_k1_grows, "mismatch/kl_k1 grew in size from 0.001 to 0.02 since the warm-up, more than 10 times."),
    ],
)
def test_a_disagreement_names_its_limit_or_what_it_grew_from(
    tmp_path: Path, fault: Callable[[Metrics], None], message: str
) -> None:
    """A divergence below the limit that has grown is told by the level it began at, in its evidence, too."""
    metrics = healthy_metrics(NUM_STEPS)
    fault(metrics)
    (finding,) = (f for f in judged(tmp_path, metrics).findings if f.code == "mismatch_measures")
    assert message in finding.message
    if "grew" in message:
        assert (finding.evidence[0].baseline, finding.evidence[0].observed) == pytest.approx((0.001, 0.02))


def test_the_end_of_a_schedule_is_no_leap(tmp_path: Path) -> None:
    """A rate that falls to a ten-thousandth at once has ended, and is one finding."""
    metrics = healthy_metrics(NUM_STEPS)
    metrics["policy/lr"] = np.full(NUM_STEPS, 1e-6)
    metrics["policy/lr"][60:] = 1e-10
    (finding,) = (f for f in judged(tmp_path, metrics).findings if f.code == "learning_rate")
    assert finding.title == "The learning rate has run out"


def test_a_response_longer_than_its_limit_can_not_be(tmp_path: Path) -> None:
    """The configured limit and the longest response contradict each other."""
    metrics = healthy_metrics(NUM_STEPS)
    metrics["rollout/response_tokens_max"] = np.full(NUM_STEPS, 17.0)
    write_run(tmp_path, [])
    (tmp_path / "config.yaml").write_text("generation:\n  max_response_tokens: 16\n", encoding="utf-8")
    (finding,) = (f for f in judged(tmp_path, metrics).findings if f.code == "invariants")
    assert "rollout/response_tokens_max was 17, above generation.max_response_tokens=16" in finding.message
