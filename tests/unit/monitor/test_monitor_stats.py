"""The statistics behind the rules, on values worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from orz_monitor.stats import (
    episodes,
    local_median,
    median,
    persistent,
    smooth,
    step_noise,
    trailing_median,
    trend,
)

pytestmark = pytest.mark.unit

NAN = float("nan")


def test_median_by_hand() -> None:
    """The middle value, or the mean of the two in the middle; the order of the array stays."""
    values = np.array([9.0, 1, 4])
    assert median(values) == 4
    assert values.tolist() == [9, 1, 4]
    assert median(np.array([9.0, 1, 4, 2])) == 3
    assert median(np.array([7.0])) == 7


@pytest.mark.parametrize("count", [1, 2, 9, 10, 999, 1000])
def test_median_is_numpys(count: int) -> None:
    """To the last bit."""
    values = np.random.default_rng(count).standard_normal(count)
    assert median(values) == np.median(values)


def test_trailing_median_by_hand() -> None:
    """Each value with the two before it; the first ones have fewer, and NaNs don't count."""
    np.testing.assert_array_equal([5, 3, 2, 2, 5.5], trailing_median(np.array([5.0, 1, 2, 9, NAN]), 3))


def test_local_median_leaves_the_value_itself_out() -> None:
    """A spike does not raise its own surroundings."""
    np.testing.assert_array_equal([1.5, 1, 1.5, 2, 1], local_median(np.array([1.0, 2, 1, 1, 2]), 4))
    assert local_median(np.array([1.0, 1, 100, 1, 1]), 4)[2] == 1


def test_medians_of_a_long_series_are_those_of_each_window() -> None:
    """Also where windows are taken in several lots."""
    values = np.random.default_rng(0).normal(size=9000)
    values[4000:4200:7] = NAN
    expected = [np.nanmedian(np.r_[values[max(at - 3, 0) : at], values[at + 1 : at + 4]]) for at in range(len(values))]
    np.testing.assert_array_equal(expected, local_median(values, 6))
    expected = [np.nanmedian(values[max(at - 4, 0) : at + 1]) for at in range(len(values))]
    np.testing.assert_array_equal(expected, trailing_median(values, 5))


def test_medians_of_nothing() -> None:
    """An empty series stays empty."""
    assert len(trailing_median(np.empty(0), 5)) == 0
    assert len(local_median(np.empty(0), 5)) == 0


def test_step_noise_recovers_sigma_and_ignores_drift_and_outliers() -> None:
    """Within 10 % of the truth on 4000 normal values with a drift of ten sigma and some wild points."""
    rng = np.random.default_rng(0)
    values = 5 + 0.1 * rng.standard_normal(4000) + np.linspace(0, 1, 4000)
    values[::100] = 50
    assert step_noise(values) == pytest.approx(0.1, rel=0.1)


def test_step_noise_of_a_series_printed_with_few_digits() -> None:
    """Equal neighbours are not noiseless: at least 1 % of the level."""
    assert step_noise(np.array([2.0, 2, 2, 2])) == pytest.approx(0.02)
    assert step_noise(np.empty(0)) == 0.0


def test_trend_by_hand() -> None:
    """A line has its slope, and p falls with its length; a constant and three points have no trend."""
    short, longer = (trend(np.arange(n), 0.5 * np.arange(n)) for n in (6, 12))
    assert short.slope == pytest.approx(0.5)
    # S = 15, Var(S) = 6 * 5 * 17 / 18 = 28.33, z = 14 / 5.32 = 2.63
    assert short.p_value == pytest.approx(0.00853, abs=1e-4)
    assert longer.p_value < short.p_value
    assert trend(np.arange(9), np.ones(9)).p_value == 1
    assert trend(np.arange(3), np.arange(3.0)).p_value == 1


def test_trend_of_noise_is_rarely_significant() -> None:
    """At p < 0.01 fewer than 3 % of 300 autocorrelated walks of noise have a trend."""
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(300):
        noise = rng.standard_normal(60)
        noise[1:] += 0.5 * noise[:-1]
        hits += trend(np.arange(60), noise).p_value < 0.01
    assert hits <= 9


def test_trend_uses_the_steps_not_their_order() -> None:
    """Missing steps do not change a slope."""
    assert trend(np.array([0, 1, 2, 10, 20]), np.array([0.0, 1, 2, 10, 20])).slope == pytest.approx(1)


def test_trend_of_a_long_series_is_thinned() -> None:
    """Fifty thousand points are no problem."""
    assert trend(np.arange(50_000), np.arange(50_000) * 2.0).slope == pytest.approx(2)


def test_persistent_by_hand() -> None:
    """Two of three, and the point itself must be a hit."""
    mask = np.array([True, False, True, False, False, True, True, True])
    expected = np.array([False, False, True, False, False, False, True, True])
    np.testing.assert_array_equal(expected, persistent(mask, 2, 3))
    assert not persistent(np.zeros(0, dtype=bool), 2, 3).any()


def test_episodes_by_hand() -> None:
    """Hits that are close together are one episode."""
    mask = np.array([True, False, True, False, False, False, True])
    assert episodes(mask, join=2) == [(0, 2), (6, 6)]
    assert episodes(mask, join=4) == [(0, 6)]
    assert episodes(np.zeros(4, dtype=bool)) == []


def test_smoothing_has_no_lag() -> None:
    """A line stays a line in its middle, and a constant stays what it is."""
    line = np.arange(100.0)
    np.testing.assert_allclose(line[40:60], smooth(line, 0.2)[40:60], atol=0.01)
    np.testing.assert_array_equal(np.full(5, 3.0), smooth(np.full(5, 3.0), 0.2))
