"""A disagreement of sampler and trainer that gets worse, by growing or by showing elsewhere, is never told as less."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from orz_cli.findings import Severity
from orz_monitor.findings import Finding, rank
from orz_monitor.rules import mismatch_measures
from orz_monitor.simulated import as_run
from orz_monitor.stats import Array
from orz_monitor.testing import healthy_metrics

pytestmark = pytest.mark.unit

NUM_STEPS = 120
STEPS = np.arange(NUM_STEPS)
NOTHING = len(Severity)
"""Rank of no finding."""


def found(**changed: Array) -> list[Finding]:
    """Return what the rule finds in an otherwise healthy run of as many steps as the changed metrics have."""
    changed = {name.replace("__", "/"): values for name, values in changed.items()}
    num_steps = len(next(iter(changed.values())))
    return mismatch_measures.RULE.judge(as_run(healthy_metrics(num_steps) | changed, finished=False))


def worst(findings: list[Finding]) -> int:
    return min((rank(finding.severity) for finding in findings), default=NOTHING)


def late(usual: float, bad: float) -> Array:
    return np.where(STEPS < 60, usual, bad)


@pytest.mark.parametrize("name", ["mismatch/kl_k3", "mismatch/kl_k1", "mismatch/js"])
@pytest.mark.parametrize("rate", [0.03, 0.06, 0.12])
def test_a_divergence_that_grows_is_never_less_severe(name: str, rate: float) -> None:
    """From 0.0017 nats at step 30 on, judged after each step: past three and ten times its level, 0.1 and 0.5 nats."""
    noise = np.exp(0.03 * np.random.default_rng(7).standard_normal(NUM_STEPS))
    grows = 0.0017 * noise * np.exp(rate * np.clip(STEPS - 30, 0, None))
    ranks = [worst(found(**{name: grows[:end]})) for end in range(35, NUM_STEPS + 1)]
    assert ranks == sorted(ranks, reverse=True)
    assert rank(Severity.ERROR) == ranks[-1]


def test_growth_that_is_an_error_stays_one_beyond_the_limit_of_a_warning() -> None:
    """From 0.002 to 0.2 nats: above 0.1, which is a warning, and a hundred times what it was, which is an error."""
    (finding,) = found(mismatch__kl_k3=0.002 * 100 ** np.clip((STEPS - 40) / 60, 0, 1))
    assert (Severity.ERROR, "Sampler and trainer drift apart") == (finding.severity, finding.title)
    assert "grew from 0.002 to 0.2 since the warm-up, more than 10 times" in finding.message
    assert [item.metric for item in finding.evidence] == ["mismatch/kl_k3"]


BAD = {
    "mismatch/kl_k3": late(0.03, 0.15),
    "mismatch/kl_k1": late(0.03, -0.15),
    "mismatch/prob_ratio_error": late(1.01, 1.1),
    "mismatch/prob_corr": late(0.999, 0.2),
    "correction/weight_std": late(0.1, 2.0),
    "correction/effective_frac": late(0.97, 0.01),
    "correction/chi2_token": late(0.01, 5.0),
}


@pytest.mark.parametrize(("one", "other"), [*itertools.combinations(BAD, 2)])
def test_a_second_bad_measure_makes_nothing_milder(one: str, other: str) -> None:
    """It is as severe as the worse of the two alone; one finding, whose evidence has both."""
    alone = [worst(found(**{name: BAD[name]})) for name in (one, other)]
    both = found(**{one: BAD[one], other: BAD[other]})
    assert (min(alone), 1) == (worst(both), len(both))
    speaks = one if alone[0] <= alone[1] else other
    assert speaks in both[0].message
    assert {one, other} == {item.metric for item in both[0].evidence}


def test_measures_differ_in_how_bad_they_are() -> None:
    """A correlation of 0.2 and 1 % of effective samples are errors, a KL of 0.15 nats is a warning."""
    severities = {
        name: Severity.ERROR if worst(found(**{name: bad})) == 0 else Severity.WARN for name, bad in BAD.items()
    }
    errors = {name for name, severity in severities.items() if severity is Severity.ERROR}
    assert errors == {"mismatch/prob_corr", "correction/effective_frac"}


def test_what_was_over_before_is_no_evidence() -> None:
    """A KL that was large up to step 40 has nothing to do with samples that lose their weight from step 60 on."""
    early = np.where((STEPS > 20) & (STEPS < 40), 0.2, 0.03)
    (finding,) = found(mismatch__kl_k3=early, correction__effective_frac=late(0.97, 0.01))
    assert ["correction/effective_frac"] == [item.metric for item in finding.evidence]
