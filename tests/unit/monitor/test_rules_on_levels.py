"""Levels that are worth a note or a warning by themselves, and settings that move a limit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from orz_cli.findings import Severity
from orz_monitor.configuration import Configuration
from orz_monitor.configuration.model import Override
from orz_monitor.engine import judge
from orz_monitor.findings import Finding
from orz_monitor.simulated import as_run
from orz_monitor.stats import Array
from orz_monitor.testing import healthy_metrics

pytestmark = pytest.mark.unit

NUM_STEPS = 120
STEPS = np.arange(NUM_STEPS)
ONE_UPDATE = {"policy.updates_per_step": "1", "policy.epochs_per_step": "1"}


def healthy(**changed: Array) -> dict[str, Array]:
    """A healthy run without a critic, whose reward neither rises nor falls, with other series instead of some."""
    metrics = healthy_metrics(NUM_STEPS, critic=False)
    metrics["reward/mean"] = metrics["reward/solved_frac"] = 0.5 + noise(0.02)
    return metrics | {name.replace("__", "/"): values for name, values in changed.items()}


def noise(sigma: float) -> Array:
    return sigma * np.random.default_rng(11).standard_normal(NUM_STEPS)


def found(
    code: str, metrics: Mapping[str, Array], *, config: Mapping[str, str] | None = None, framework: str = "orz-train"
) -> Finding | None:
    run = replace(as_run(metrics), config=config or {}, framework=framework)
    matching = [finding for finding in judge(run).findings if finding.code == code]
    assert len(matching) <= 1
    return matching[0] if matching else None


def full(value: float) -> Array:
    return np.full(NUM_STEPS, value)


def later(value: float, usual: float, first: int) -> Array:
    return np.where(first <= STEPS, value, usual)


def test_that_nothing_is_ever_clipped_is_a_note() -> None:
    """A constant 0, which is right with one update a batch: it is told as such, with the whole run as its span."""
    finding = found("clip_frac", healthy(policy__clip_frac=full(0.0), policy__kl_old=full(0.0)))
    assert finding is not None
    assert (Severity.INFO, 0, NUM_STEPS - 1) == (finding.severity, finding.first_step, finding.last_step)
    assert "as expected with one update on each batch" in finding.message


@pytest.mark.parametrize(
    ("config", "framework"),
    [
        (ONE_UPDATE, "orz-train"),
        (
            {
                "actor_rollout_ref.actor.ppo_epochs": "1",
                "actor_rollout_ref.actor.ppo_mini_batch_size": "256",
                "data.train_batch_size": "256",
            },
            "verl",
        ),
        ({"num_iterations": "1", "steps_per_generation": "4", "gradient_accumulation_steps": "4"}, "trl"),
    ],
    ids=["orz-train", "verl", "trl"],
)
def test_settings_that_explain_why_nothing_is_clipped_make_it_no_news(config: dict[str, str], framework: str) -> None:
    """Where they say that each batch gets one update; where one of them says otherwise, the note is there."""
    metrics = healthy(policy__clip_frac=full(0.0), policy__kl_old=full(0.0))
    assert found("clip_frac", metrics, config=config, framework=framework) is None
    for name in config:
        assert found("clip_frac", metrics, config=config | {name: "2"}, framework=framework) is not None
        assert found("clip_frac", metrics, config={**config, name: ""}, framework=framework) is not None


def test_a_clip_frac_that_is_not_always_0_is_no_note() -> None:
    """One step with a clipped token is enough; so are fewer than 20 steps."""
    once = full(0.0)
    once[60] = 1e-6
    assert found("clip_frac", healthy(policy__clip_frac=once)) is None
    few = {name: values[:19] for name, values in healthy(policy__clip_frac=full(0.0)).items()}
    assert found("clip_frac", few) is None


@pytest.mark.parametrize(
    ("share", "severity"),
    [(0.04, None), (0.07, Severity.INFO), (0.2, Severity.WARN), (0.6, Severity.ERROR)],
)
def test_more_than_a_twentieth_cut_is_a_note(share: float, severity: Severity | None) -> None:
    """A tenth is a warning, and half an error; the level that was exceeded is named."""
    finding = found("truncation", healthy(rollout__truncated_frac=later(share, 0.01, 70) * (1 + noise(0.02))))
    assert severity == (finding.severity if finding is not None else None)
    if finding is not None:
        level = {Severity.INFO: 5, Severity.WARN: 10, Severity.ERROR: 10}[finding.severity]
        assert f"more than {level} % since step 70" in finding.message
        assert finding.first_step == 70


def test_a_base_model_that_learns_to_stop_is_no_note() -> None:
    """Truncation that falls, and a tenth of it that is long over."""
    falling = healthy(rollout__truncated_frac=np.linspace(0.095, 0.055, NUM_STEPS) * (1 + noise(0.02)))
    assert found("truncation", falling) is None
    assert found("truncation", healthy(rollout__truncated_frac=np.where(STEPS < 60, 0.07, 0.01))) is None


@pytest.mark.parametrize(
    ("start", "end", "reward", "severity"),
    [
        (0.7, 1.2, 0.5, Severity.WARN),
        (0.7, 1.2, 0.3, Severity.ERROR),
        (0.7, 1.2, 0.8, None),
        (0.7, 0.95, 0.5, None),
        (1.3, 1.5, 0.5, None),
        (0.9, 1.1, 0.5, None),
    ],
    ids=["beyond 1 nat", "and the reward falls", "and the reward rises", "below 1", "from above 1", "within its noise"],
)
def test_entropy_that_climbed_beyond_1_nat_is_high(
    start: float, end: float, reward: float, severity: Severity | None
) -> None:
    """Without having doubled, and though it does not rise any more."""
    steps = np.clip((STEPS - 50) / 20, 0, 1)
    metrics = healthy(
        policy__entropy=(start + (end - start) * steps) * (1 + noise(0.01)),
        reward__mean=0.5 + (reward - 0.5) * steps + noise(0.01),
    )
    del metrics["reward/solved_frac"]
    finding = found("entropy_high", metrics)
    assert severity == (finding.severity if finding is not None else None)
    if finding is not None:
        assert "nats at step 119, beyond 1, while the reward is" in finding.message


def test_entropy_that_has_gone_without_a_known_reward_is_a_warning() -> None:
    """Below a hundredth of a nat, whatever it comes from; also where the reward rises."""
    gone = np.where(STEPS < 60, 0.4, 0.002)
    unknown = {name: values for name, values in healthy(policy__entropy=gone).items() if not name.startswith("reward/")}
    finding = found("entropy_low", unknown)
    assert finding is not None
    assert finding.severity is Severity.WARN
    rising = healthy(policy__entropy=gone, reward__mean=np.linspace(0.2, 0.7, NUM_STEPS))
    finding = found("entropy_low", rising)
    assert finding is not None
    assert finding.severity is Severity.WARN
    assert "while the reward is rising" in finding.message


def test_low_entropy_while_the_reward_rises_is_a_note() -> None:
    """A tenth of what it was, above the floor."""
    low = np.where(STEPS < 60, 0.4, 0.04)
    finding = found("entropy_low", healthy(policy__entropy=low, reward__mean=np.linspace(0.2, 0.7, NUM_STEPS)))
    assert finding is not None
    assert finding.severity is Severity.INFO


@pytest.mark.parametrize(("size", "severity"), [(2e-3, None), (0.01, Severity.WARN), (0.2, Severity.ERROR)])
def test_old_and_new_policy_are_the_same_with_one_update(size: float, severity: Severity | None) -> None:
    """KL between them is 0 then, but for rounding in half precision; with several updates a batch 0.01 is usual."""
    metrics = healthy(policy__kl_old=later(-size, 0.0, 60))
    finding = found("kl_old", metrics, config=ONE_UPDATE)
    assert severity == (finding.severity if finding is not None else None)
    if finding is not None:
        assert (60, "and it should be 0" in finding.message) == (finding.first_step, True)
    if size < 0.02:
        assert found("kl_old", metrics) is None


@pytest.mark.parametrize("metric", ["policy/lr", "policy/grad_norm"])
def test_a_kl_of_0_needs_a_policy_that_is_trained(metric: str) -> None:
    """With a learning rate or a gradient of 0 it stays where it is, which other rules tell of."""
    metrics = healthy(policy__kl_ref=full(0.0), policy__lr=full(1e-6))
    assert found("kl_zero", metrics) is not None
    assert found("kl_zero", metrics | {metric: full(0.0)}) is None


def length_that_grows(**changed: Array) -> dict[str, Array]:
    metrics = healthy(rollout__response_tokens_mean=300 * 1.05 ** np.clip(STEPS - 90.0, 0, None), **changed)
    del metrics["rollout/truncated_frac"]
    return metrics


def test_length_that_grows_into_the_limit_is_found_without_truncation() -> None:
    """Where it is not logged how many are cut, the longest response tells, if the limit is known."""
    limit = {"generation.max_response_tokens": "4096"}
    longest = later(4096.0, 2000.0, 80)
    finding = found("length_growth", length_that_grows(rollout__response_tokens_max=longest), config=limit)
    assert finding is not None
    assert finding.severity is Severity.WARN
    assert "and the longest had generation.max_response_tokens=4096 tokens" in finding.message
    assert found("length_growth", length_that_grows(rollout__response_tokens_max=longest)) is None
    assert found("length_growth", length_that_grows(rollout__response_tokens_max=longest - 1), config=limit) is None


@pytest.mark.parametrize(
    ("config", "age", "is_found"),
    [
        ({}, 9.0, True),
        ({}, 7.0, False),
        ({"orchestrator.max_off_policy_steps": "16"}, 9.0, False),
        ({"orchestrator.max_off_policy_steps": "16"}, 17.0, True),
        ({"rollout.max_head_offpolicyness": "4"}, 5.0, True),
        ({"rollout.max_head_offpolicyness": "null"}, 7.0, False),
    ],
)
def test_how_old_samples_may_be_is_what_the_settings_allow(
    config: dict[str, str], age: float, *, is_found: bool
) -> None:
    """Eight updates where they don't say."""
    finding = found("stale", healthy(staleness__max=later(age, 1.0, 100)), config=config)
    assert (finding is not None) is is_found


def test_a_limit_that_the_user_has_set_wins_over_the_settings() -> None:
    """Of how old samples may be."""
    run = replace(as_run(healthy(staleness__max=later(9.0, 1.0, 100))), config={"a.max_off_policy_steps": "4"})
    set_by_user = Configuration(path=None, overrides={"stale": Override(limits={"warn": 20.0})})
    assert "stale" in {finding.code for finding in judge(run).findings}
    assert "stale" not in {finding.code for finding in judge(run, configuration=set_by_user).findings}


@pytest.mark.parametrize(
    ("config", "is_found"),
    [
        ({"policy.model": "Qwen/Qwen2.5-7B"}, True),
        ({"policy.model": "/models/7b/Qwen2.5-1.5B-Instruct/"}, True),
        ({"policy.model": "Qwen/Qwen3-30B-A3B"}, True),
        ({"model/num_parameters": "7615616512"}, True),
        ({"policy.model": "Qwen/Qwen2.5-0.5B"}, False),
        ({"policy.model": "/models/7b/base"}, False),
        ({"policy.model": "Qwen/Qwen2.5-7B", "actor_rollout_ref.model.lora_rank": "32"}, False),
        ({"policy.model": "Qwen/Qwen2.5-7B", "actor_rollout_ref.model.lora_rank": "0"}, True),
        ({}, False),
    ],
)
def test_a_large_model_bears_smaller_rates(config: dict[str, str], *, is_found: bool) -> None:
    """From 1.5 billion parameters on, 5e-5 is noted for full fine-tuning; for others from 1e-4 on."""
    metrics = healthy(policy__lr=full(5e-5), rollout__response_tokens_mean=full(800.0))
    finding = found("learning_rate", metrics, config=config)
    assert (finding is not None) is is_found
    assert found("learning_rate", metrics | {"policy/lr": full(9e-6)}, config=config) is None


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("reward/max", 0.2, "reward/mean was 0.5, above reward/max"),
        ("reward/min", 0.7, "reward/mean was 0.5, below reward/min"),
    ],
)
def test_a_mean_reward_is_within_those_of_its_step(name: str, value: float, said: str) -> None:
    """The smallest and the largest."""
    bounds = {"reward/min": full(0.0), "reward/max": full(1.0)}
    metrics = healthy(reward__mean=full(0.5)) | bounds
    assert found("invariants", metrics) is None
    bounds[name] = later(value, bounds[name][0], 60)
    finding = found("invariants", metrics | bounds)
    assert finding is not None
    assert (said in finding.message, finding.first_step) == (True, 60)


@pytest.mark.parametrize(("estimator", "is_found"), [("k3", True), ("k2", True), ("k1", False), ("", False)])
def test_only_some_estimators_of_kl_may_be_negative(estimator: str, *, is_found: bool) -> None:
    """k1 may, k2 and k3 may not; nor is said what is not known."""
    run = as_run(healthy(policy__kl_ref=later(-0.01, 0.02, 60)))
    series = replace(run.metrics["policy/kl_ref"], estimator=estimator)
    run = replace(run, metrics={**run.metrics, "policy/kl_ref": series})
    assert ("invariants" in {finding.code for finding in judge(run).findings}) is is_found


def test_a_mean_length_beyond_the_limit_can_not_be() -> None:
    """Where the longest response is not logged, the mean has to be within it."""
    metrics = healthy(rollout__response_tokens_mean=full(30.0))
    config = {"generation.max_response_tokens": "16"}
    finding = found("invariants", metrics, config=config)
    assert finding is not None
    assert "rollout/response_tokens_mean was 30, above generation.max_response_tokens=16" in finding.message
    assert found("invariants", metrics, config={"generation.max_response_tokens": "32"}) is None


def test_gradients_below_the_clip_are_no_note() -> None:
    """Half of them above it is no note either; more than nine in ten are."""
    config = {"policy.optimizer.max_grad_norm": "1.0"}
    run = replace(as_run(healthy_metrics(NUM_STEPS) | {"policy/grad_norm": full(0.5)}), config=config)
    assert "grad_clip" in {rule.code for rule in judge(run).passed}
    assert found("grad_clip", healthy(policy__grad_norm=np.where(STEPS % 2, 0.5, 1.5)), config=config) is None
    finding = found("grad_clip", healthy(policy__grad_norm=full(1.5)), config=config)
    assert finding is not None
    assert finding.severity is Severity.INFO
