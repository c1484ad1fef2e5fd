"""Slow steps and large gradient norms that last: as the run grows never milder, and a note once they are over."""

from __future__ import annotations

import numpy as np
import pytest

from orz_cli.findings import Severity
from orz_monitor.findings import Finding
from orz_monitor.rules import grad_spike, slow_steps
from orz_monitor.rules.base import Rule
from orz_monitor.simulated import as_run, healthy
from orz_monitor.stats import Array
from orz_monitor.units import shown

pytestmark = pytest.mark.unit

NUM_STEPS = 260
AT = 100
"""The first step of a fault."""
STEPS = np.arange(NUM_STEPS)
ORDER = (None, Severity.INFO, Severity.WARN, Severity.ERROR)


def noise(sigma: float, seed: int = 3) -> Array:
    return np.asarray(np.exp(sigma * np.random.default_rng(seed).standard_normal(NUM_STEPS)), dtype=np.float64)


def judged(rule: Rule, changed: dict[str, Array], num_steps: int = NUM_STEPS) -> list[Finding]:
    """Return what a rule finds in the first steps of a healthy run with some metrics of another kind."""
    usual = healthy(NUM_STEPS, seed=5, kind="grpo")
    metrics = {name: values for name, values in usual.items() if not name.startswith("seconds/")} | changed
    return rule.judge(as_run({name: values[:num_steps] for name, values in metrics.items()}, finished=False))


def severities(rule: Rule, changed: dict[str, Array], ends: range) -> list[Severity | None]:
    """Return how severe the only finding is of the run as it grows; None where there is none."""
    found = [judged(rule, changed, end) for end in ends]
    assert all(len(findings) <= 1 for findings in found)
    return [findings[0].severity if findings else None for findings in found]


def never_milder(seen: list[Severity | None]) -> bool:
    ranks = [ORDER.index(one) for one in seen]
    return ranks == sorted(ranks)


def taking(factor: Array | float, tokens: Array | float = 1000.0) -> dict[str, Array]:
    """Steps of a minute times a factor, and how long their responses are."""
    seconds = 60 * noise(0.05) * factor
    lengths = tokens * noise(0.02, seed=4)
    return {"seconds/total": seconds, "seconds/generate": 0.6 * seconds, "rollout/response_tokens_mean": lengths}


def late(factor: float, until: int = NUM_STEPS) -> Array:
    return np.where((STEPS >= AT) & (STEPS < until), factor, 1.0)


@pytest.mark.parametrize("factor", [2.0, 4.0])
def test_slow_steps_are_a_warning_as_long_as_they_last(factor: float) -> None:
    """From five slow steps on, whose number grows past the 40 that the level is made of."""
    seen = severities(slow_steps.RULE, taking(late(factor)), range(AT, NUM_STEPS + 1))
    assert seen[:5] == [None] * 5
    assert seen[8:] == [Severity.WARN] * (NUM_STEPS - AT - 7)
    assert never_milder(seen)
    (finding,) = judged(slow_steps.RULE, taking(late(factor)))
    assert (AT, NUM_STEPS - 1) == (finding.first_step, finding.last_step)
    assert finding.evidence[0].baseline == pytest.approx(60, rel=0.05)
    assert finding.evidence[0].observed == pytest.approx(60 * factor, rel=0.05)


def test_steps_that_get_slower_stay_one_warning() -> None:
    """Twice as long as before, and after 60 steps six times."""
    slower = late(2.0) * np.where(STEPS >= AT + 60, 3.0, 1.0)
    assert never_milder(severities(slow_steps.RULE, taking(slower), range(AT, NUM_STEPS + 1, 3)))
    assert [AT] == [finding.first_step for finding in judged(slow_steps.RULE, taking(slower))]


@pytest.mark.parametrize("length", [12, 80])
def test_slow_steps_that_are_over_are_a_note(length: int) -> None:
    """Ten steps as fast as before end it, however long it lasted; it begins and ends where it did."""
    end = AT + length
    seen = severities(slow_steps.RULE, taking(late(4.0, end)), range(end, NUM_STEPS + 1, 5))
    assert Severity.WARN is seen[0]
    assert seen[2:] == [Severity.INFO] * (len(seen) - 2)
    (finding,) = judged(slow_steps.RULE, taking(late(4.0, end)))
    assert (AT, end - 1) == (finding.first_step, finding.last_step)
    assert f"in the steps {AT} to {end - 1}, " in finding.message


def test_steps_that_are_hardly_faster_again_are_not_over() -> None:
    """Four times as long as before, and after 60 steps twice: none has been as fast as before."""
    slower = late(2.0) * late(2.0, AT + 60)
    seen = severities(slow_steps.RULE, taking(slower), range(AT + 8, NUM_STEPS + 1, 4))
    assert {Severity.WARN} == set(seen)


def test_slow_steps_that_come_again_are_a_warning_again() -> None:
    """After 25 steps as fast as before, with all the level still full of slow ones: the same episode goes on."""
    again = np.where((STEPS >= AT + 80) & (STEPS < AT + 105), 1.0, late(4.0))
    (finding,) = judged(slow_steps.RULE, taking(again))
    assert (Severity.WARN, AT, NUM_STEPS - 1) == (finding.severity, finding.first_step, finding.last_step)
    assert f"Steps took 4 min in {NUM_STEPS - AT - 25} of the steps {AT} to {NUM_STEPS - 1}, " in finding.message


def test_longer_responses_that_explain_slower_steps_are_no_finding() -> None:
    """Four times the time for four times as long responses, for good; for the same length it is slow."""
    assert [] == judged(slow_steps.RULE, taking(late(4.0), tokens=1000 * late(4.0)))
    assert 1 == len(judged(slow_steps.RULE, taking(late(4.0), tokens=1000.0)))


def norms(course: Array | float) -> dict[str, Array]:
    """Gradient norms of 0.3 with the noise of public runs, three times that in the warm-up, times a course."""
    return {"policy/grad_norm": 0.3 * noise(0.2) * (1 + 2 * np.exp(-STEPS / 6)) * course}


def climb(rate: float, most: float = np.inf) -> Array:
    """One that grows by a share a step from step 60 on."""
    return np.minimum((1 + rate) ** np.clip(STEPS - 60, 0, None), most)


@pytest.mark.parametrize("rate", [0.02, 0.04, 0.06, 0.08])
def test_a_norm_that_climbs_is_a_warning_that_stays(rate: float) -> None:
    """At ten times its level after the warm-up, within the 8 steps that persistence takes; noise makes it 3 more."""
    course = norms(climb(rate))
    ten_times = 60 + int(np.ceil(np.log(10) / np.log(1 + rate)))
    seen = severities(grad_spike.RULE, course, range(40, NUM_STEPS + 1, 2))
    assert never_milder(seen)
    known = judged(grad_spike.RULE, course, ten_times + 11)
    assert [Severity.WARN] == [finding.severity for finding in known]


def test_a_climb_is_told_without_the_word_leap() -> None:
    """Six percent a step: 3 times the level is reached 19 steps after step 60, and it is 10^5 times at the end."""
    (finding,) = judged(grad_spike.RULE, norms(climb(0.06)))
    assert "The gradient norm is far above its level" == finding.title
    assert "leap" not in finding.message
    assert finding.first_step is not None
    assert 72 <= finding.first_step <= 84
    assert NUM_STEPS - 1 == finding.last_step
    (evidence,) = finding.evidence
    assert evidence.baseline == pytest.approx(0.3, rel=0.2)
    assert evidence.observed == pytest.approx(0.3 * 1.06**199, rel=0.5)


def test_a_climb_that_levels_off_stays_a_warning() -> None:
    """It stays at 15 times its level, which is what it was for the 20 steps before each."""
    seen = severities(grad_spike.RULE, norms(climb(0.05, most=15.0)), range(130, NUM_STEPS + 1))
    assert {Severity.WARN} == set(seen)


@pytest.mark.parametrize("course", ["climb", "leap"])
def test_a_norm_that_came_back_is_a_note(course: str) -> None:
    """By either way it was at 20 times its level until step 180."""
    up = climb(0.05, most=20.0) if course == "climb" else np.where(STEPS >= AT, 20.0, 1.0)
    (finding,) = judged(grad_spike.RULE, norms(np.where(STEPS < 180, up, 1.0)))
    assert Severity.INFO is finding.severity
    assert ("leaps" in finding.title) == (course == "leap")
    assert 179 == finding.last_step


def test_a_leap_that_stays_and_climbs_on_is_one_finding() -> None:
    """It leaps to ten times its level and climbs from there: told as leaps, with where it is now."""
    course = norms(np.where(STEPS >= AT, 10.0, 1.0) * 1.04 ** np.clip(STEPS - AT, 0, None))
    assert never_milder(severities(grad_spike.RULE, course, range(AT, NUM_STEPS + 1, 3)))
    (finding,) = judged(grad_spike.RULE, course)
    assert (Severity.WARN, "The gradient norm leaps") == (finding.severity, finding.title)
    assert (AT, NUM_STEPS - 1) == (finding.first_step, finding.last_step)
    now = float(np.median(course["policy/grad_norm"][-10:]))
    assert f"It has not come back by step {NUM_STEPS - 1}: {shown(now)} in the last 10 steps." in finding.message


@pytest.mark.parametrize(
    "course",
    [climb(0.02, most=4.0), 1 / climb(0.02, most=4.0), 0.001 * climb(0.05, most=300.0)],
    ids=["drifts up", "drifts down", "is tiny at first"],
)
def test_a_norm_that_drifts_as_in_healthy_runs_is_no_finding(course: Array) -> None:
    """By a factor of four either way; or from next to nothing, before there is a reward, to less than trainers clip."""
    assert [] == judged(grad_spike.RULE, norms(course))
