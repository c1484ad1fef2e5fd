"""A log of noise has thousands of episodes, of which a few are shown: only these are described."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from orz_cli.findings import Severity
from orz_monitor.findings import Finding, Sighting, rank
from orz_monitor.records import EventRecord
from orz_monitor.rules import RULES, Rule, grad_zero
from orz_monitor.run import Run
from orz_monitor.simulated import as_run
from orz_monitor.stats import Array

pytestmark = pytest.mark.unit
OF_NOISE = (
    "nonfinite",
    "reward_unscored",
    "advantage_zero",
    "grad_zero",
    "entropy_fast",
    "kl_drift",
    "grad_spike",
    "loss_spike",
    "kv_full",
    "generation_starved",
    "slow_steps",
)
"""Rules that may see an episode every few dozen steps, however long the run is."""
BY_CODE = {rule.code: rule for rule in RULES}


def noise(num_steps: int, *, seed: int) -> Run:
    """A run whose metrics jump every eight steps among nothing, little and much; its reference changes every 50."""
    rng = np.random.default_rng(seed)

    def bursts(chance: float) -> Array:
        return np.asarray(np.repeat(rng.random(num_steps // 8 + 1) < chance, 8)[:num_steps])

    names = {name for rule in RULES for name in (*rule.needs, *rule.needs_any) if "<" not in name}
    metrics = {}
    for name in sorted({*names, "reward/unscored_frac", "policy/loss"}):
        values = np.exp(rng.standard_normal(num_steps)) * np.where(bursts(0.3), 30.0, 0.02)
        values[bursts(0.25)] = 0.0
        metrics[name] = np.clip(values, 0, 1) if name.endswith(("_frac", "_usage", "reward/mean")) else values
    metrics["reward/unscored_frac"] = (np.arange(num_steps) % 10 == 3).astype(np.float64)
    metrics["policy/entropy"][bursts(0.02)] = np.nan
    metrics["seconds/total"] = np.where(np.arange(num_steps) % 160 < 140, 10.0, 40.0)
    updates = tuple(EventRecord(event="ref_update", time=0.0, step=step) for step in range(0, num_steps, 50))
    return replace(as_run(metrics), events=updates)


@pytest.fixture(scope="module")
def long_run() -> Run:
    """100,000 steps of it."""
    return noise(100_000, seed=0)


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[Finding]:
    """Every finding that is made, copies with another message included."""
    made: list[Finding] = []
    make = Finding.__init__

    def counted(self: Finding, **fields: object) -> None:
        make(self, **fields)  # type: ignore[arg-type]
        made.append(self)

    monkeypatch.setattr(Finding, "__init__", counted)
    return made


@pytest.mark.parametrize("code", OF_NOISE)
def test_only_what_is_shown_of_noise_is_built(code: str, long_run: Run, built: list[Finding]) -> None:
    """Of hundreds of episodes and more, five; and the last of them once more, with how many are left out."""
    rule = BY_CODE[code]
    num_seen = len(rule.check(long_run, rule.limits))
    assert num_seen >= 100
    assert built == []
    shown = rule.judge(long_run)
    assert len(shown) == 5
    assert len(built) == 6
    assert shown[-1].message.endswith(f" {num_seen - 5} more such episodes are not shown.")


def test_no_rule_builds_many_findings_of_noise(long_run: Run, built: list[Finding]) -> None:
    """A span and its pauses take a twentieth of a long run in the other rules, so that each of two metrics has 20."""
    for rule in RULES:
        if not rule.unmet(long_run):
            built.clear()
            rule.judge(long_run)
            assert len(built) <= 40 + rule.most + 1, rule.code


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("code", OF_NOISE)
def test_the_worst_of_all_episodes_are_shown(code: str, seed: int) -> None:
    """The same as if every episode were described, and then the most severe taken, earlier ones first."""
    run, rule = noise(4000, seed=seed), BY_CODE[code]
    every = [one.describe(one.severity) for one in rule.check(run, rule.limits) if isinstance(one, Sighting)]
    expected = sorted(every, key=lambda finding: rank(finding.severity))[:5]
    shown = rule.judge(run)
    assert [repr(finding) for finding in expected[:-1]] == [repr(finding) for finding in shown[:-1]]
    assert shown[-1].message.startswith(expected[-1].message)


def zero_gradients(num_spans: int) -> Run:
    """A run whose gradient is 0 in four steps of every twenty, the last ones included."""
    steps = np.arange(20 * num_spans)
    norm = np.where(steps % 20 >= 16, 0.0, 1.0)
    return as_run({"policy/grad_norm": norm, "reward/std": np.full(len(steps), 0.5)})


def test_the_most_severe_episodes_are_shown_and_the_others_counted() -> None:
    """Of twelve the last one goes on, an error; of the eleven that are over, the first four; seven are left out."""
    shown = grad_zero.RULE.judge(zero_gradients(12))
    assert [(f.severity, f.first_step, f.last_step) for f in shown] == [
        (Severity.ERROR, 236, 239),
        (Severity.WARN, 16, 19),
        (Severity.WARN, 36, 39),
        (Severity.WARN, 56, 59),
        (Severity.WARN, 76, 79),
    ]
    assert shown[-1].message.endswith("although the rewards differ. 7 more such episodes are not shown.")
    assert not any("more such" in finding.message for finding in shown[:-1])


def test_as_many_episodes_as_are_shown_leave_none_out() -> None:
    """Five of five."""
    shown = grad_zero.RULE.judge(zero_gradients(5))
    assert len(shown) == 5
    assert not any("more such" in finding.message for finding in shown)


def test_a_capped_rule_shows_the_earliest_of_what_it_makes_equal() -> None:
    """Where an error may only be a warning, the one at the end no longer comes first."""
    rule: Rule = replace(grad_zero.RULE, worst=Severity.WARN)
    shown = rule.judge(zero_gradients(12))
    assert [finding.first_step for finding in shown] == [16, 36, 56, 76, 96]
    assert {finding.severity for finding in shown} == {Severity.WARN}
