"""What the reference says that trainers call a metric is what their dialects read as that metric."""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

import pytest

from orz_monitor.dialects import KNOWN, find_dialect
from orz_monitor.dialects.base import Meaning
from orz_monitor.metrics.explain import explain
from orz_monitor.metrics.names import NAMES
from orz_monitor.metrics.peers import spec_of

pytestmark = pytest.mark.unit

ENGINES: Final = ("vllm", "sglang")
WITHIN: Final = {"orz": "bar/", "openrlhf": "bar/", "sglang": "Decode/"}
"""What a dialect puts before the keys of a part of a trainer's lines, which the trainer does not print."""
CALLED: Final = [(metric, name, key) for metric, names in NAMES.items() for name in names for key in names[name]]


def meanings(trainer: str, key: str) -> list[Meaning]:
    """Return what a trainer's dialect reads a key as, wherever on its lines it stands."""
    dialect = find_dialect(KNOWN["engines" if trainer in ENGINES else trainer])()
    printed = re.sub("<[a-z]+>", "aime", re.sub("(@|_at_)[kn]", r"\g<1>8", key))
    places = {key, printed, WITHIN.get(trainer, "") + key}
    return [meaning for place in places if (meaning := dialect.meaning(place)) is not None]


@pytest.mark.parametrize(("metric", "trainer", "key"), CALLED, ids=[f"{name}-{key}" for _, name, key in CALLED])
def test_a_dialect_reads_what_the_reference_names(metric: str, trainer: str, key: str) -> None:
    """A key of the reference is one that the dialect knows, and means that metric wherever it stands."""
    specs = {spec_of(meaning.name) for meaning in meanings(trainer, key)}
    assert {metric} == {spec.name for spec in specs if spec is not None}


def test_a_key_is_no_two_metrics() -> None:
    """Of one trainer the reference gives each key to one metric."""
    assert [] == [place for place, count in Counter((name, key) for _, name, key in CALLED).items() if count > 1]


@pytest.mark.parametrize("key", ["Generation KL Error", "train/gen_kl_error"])
def test_nemo_rl_estimates_its_generation_error_by_k3(key: str) -> None:
    """`calculate_kl(..., kl_type=self.reference_policy_kl_type)`, which is "k3" in its recipes: never negative."""
    (meaning,) = meanings("nemo-rl", key)
    assert ("mismatch/kl_k3", "k3", 1.0) == (meaning.name, meaning.estimator, meaning.scale)


def test_the_penalty_of_areal_is_no_kl() -> None:
    """`kl_rewards` is `-self.kl_ctl * self.kl_estimator(...)`: neither dialect nor reference calls it the KL."""
    assert [] == meanings("areal", "ppo_actor/kl_rewards/avg")
    assert "areal" not in NAMES["policy/kl_ref"]
    assert "kl_rewards" not in explain("policy/kl_ref", width=300)
    missing = find_dialect(KNOWN["areal"]).missing["policy/kl_ref"]
    assert "minus kl_ctl times the KL" in missing
