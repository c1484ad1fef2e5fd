"""The nouns: metrics that know how they reduce, and an import without torch."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from collections.abc import Callable

import pytest

from orz_train.types import Last, Max, Mean, Metric, Rollout, Sum, reduce_metrics

pytestmark = pytest.mark.unit

NAN = float("nan")


def test_mean_of_parts_is_the_mean_of_the_whole() -> None:
    """(1 + 2 + 3) / 3 and 10 / 1 merge to 16 / 4 = 4, not to the mean of means, 6."""
    assert Mean(16.0, 4).value() == Mean(6.0, 3).merge(Mean(10.0, 1)).value() == 4.0


def test_an_empty_mean_is_nan_and_leaves_others_alone() -> None:
    """A row without actions has no mean, and adds nothing to that of the step."""
    assert math.isnan(Mean(0.0, 0).value())
    assert Mean(6.0, 3).merge(Mean(0.0, 0)) == Mean(6.0, 3)


def test_sums_add() -> None:
    assert Sum(5.0) == Sum(2.0).merge(Sum(3.0))
    assert Sum(5.0).value() == 5.0


@pytest.mark.parametrize(
    ("first", "second", "expected"), [(1.0, 2.0, 2.0), (2.0, 1.0, 2.0), (-1.0, -2.0, -1.0), (math.inf, 1.0, math.inf)]
)
def test_max_takes_the_larger(first: float, second: float, expected: float) -> None:
    assert expected == Max(first).merge(Max(second)).value()


@pytest.mark.parametrize("peaks", [(NAN, 1.0, 2.0), (1.0, NAN, 2.0), (1.0, 2.0, NAN), (math.inf, NAN, 0.0)])
def test_a_nan_wins_a_maximum_wherever_it_stands(peaks: tuple[float, ...]) -> None:
    """A non-finite ratio in one row must not hide behind the rows after it."""
    values = reduce_metrics([Metric("m", Max(peak)) for peak in peaks])
    assert math.isnan(values["m"])


def test_last_takes_the_later() -> None:
    assert Last(2.0) == Last(1.0).merge(Last(2.0))
    assert Last(2.0).value() == 2.0


def test_metrics_of_one_name_merge_and_names_stay_apart() -> None:
    """policy/loss of three rows becomes one number; critic/loss stays another."""
    metrics = [
        Metric("policy/loss", Mean(1.0, 1)),
        Metric("critic/loss", Mean(9.0, 3)),
        Metric("policy/loss", Mean(2.0, 3)),
        Metric("policy/updates", Sum(1)),
        Metric("policy/updates", Sum(1)),
        Metric("policy/lr", Last(0.1)),
        Metric("policy/lr", Last(0.2)),
    ]
    expected = {"policy/loss": 0.75, "critic/loss": 3.0, "policy/updates": 2.0, "policy/lr": 0.2}
    assert expected == reduce_metrics(metrics)


def test_a_name_with_two_reductions_is_an_error() -> None:
    """Merging a mean with a sum has no meaning; the message names the metric and both."""
    with pytest.raises(TypeError, match=r"policy/loss: Mean meets Sum"):
        reduce_metrics([Metric("policy/loss", Mean(1.0, 1)), Metric("policy/loss", Sum(1.0))])


def test_reducing_nothing_gives_nothing() -> None:
    assert reduce_metrics([]) == {}


def test_response_len_counts_what_follows_the_prompt(make_rollout: Callable[..., Rollout]) -> None:
    assert make_rollout(4, 3).response_len == 3
    assert make_rollout(4, 0).response_len == 0


def test_nouns_are_frozen(make_rollout: Callable[..., Rollout]) -> None:
    """What one phase handed over, no later phase changes."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        make_rollout().prompt_len = 1  # type: ignore[misc]


def test_the_nouns_import_no_torch() -> None:
    """A reward worker imports them, and must be back within a moment of being killed."""
    code = "import sys, orz_train.types; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
