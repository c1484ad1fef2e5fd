from __future__ import annotations

import math

import pytest

from orz_train.runlog.text import above_noise, clock, duration, number, printable, shortened, signed, size

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("expected", "value"),
    [
        ("0", 0.0),
        ("0", -0.0),
        ("1", 1.0),
        ("0.412", 0.4123),
        ("0.0013", 0.0013),
        ("-0.031", -0.031),
        ("-1.3e-05", -1.3e-5),
        ("8.938", 8.9375),
        ("81.2", 81.2345),
        ("1235", 1234.5678),
        ("1.2e+05", 123456.0),
        ("nan", math.nan),
        ("-inf", -math.inf),
    ],
)
def test_a_number_keeps_the_digits_that_matter(expected: str, value: float) -> None:
    """Small, large, whole and non-finite numbers are all short and unmistakable."""
    assert expected == number(value)


@pytest.mark.parametrize(
    ("expected", "value"), [(0.0, -1.1e-8), (0.0, 9.9e-7), (1e-6, 1e-6), (-1.3e-5, -1.3e-5), (math.inf, math.inf)]
)
def test_rounding_errors_are_zero(expected: float, value: float) -> None:
    """Below 1e-6 nothing was measured; from there on nothing is touched."""
    assert expected == above_noise(value)
    assert math.isnan(above_noise(math.nan))


def test_a_difference_always_has_a_sign() -> None:
    """A rise can't be mistaken for a value."""
    assert ["+0.500", "-0.500", "+0"] == [signed(0.5), signed(-0.5), signed(0.0)]


@pytest.mark.parametrize(
    ("expected", "seconds"),
    [("0:00", 0.0), ("1:00", 59.6), ("1:28", 88.0), ("58:14:56", 209696.0), ("?", None), ("?", math.inf)],
)
def test_a_clock_carries_over_at_sixty(expected: str, seconds: float | None) -> None:
    """Rounding never shows 0:60, hours are unbounded, and the unknown is a question mark."""
    assert expected == clock(seconds)


def test_a_duration_becomes_a_clock_at_a_minute() -> None:
    """Short steps show fractions of a second, long ones minutes."""
    assert ["0.84 s", "12.3 s", "1:30"] == [duration(0.84), duration(12.34), duration(90)]


@pytest.mark.parametrize(
    ("expected", "num_bytes"),
    [
        ("0 B", 0),
        ("999 B", 999),
        ("1 kB", 1000),
        ("1 MB", 999_999),
        ("6.2 MB", 6.2e6),
        ("12.3 GB", 12.34e9),
        ("2 TB", 2e12),
        ("12345 TB", 1.2345e16),
    ],
)
def test_bytes_are_written_in_decimal_units(expected: str, num_bytes: float) -> None:
    """Three digits, and the unit changes at 1000, also where rounding gets there."""
    assert expected == size(num_bytes)


def test_a_sampled_text_cannot_command_the_terminal() -> None:
    """Escapes, newlines, bidi marks and lone surrogates are shown, not obeyed; other scripts stay."""
    assert r"7\x1b[2J\n\u202e\ud800 é 解" == printable("7\x1b[2J\n\u202e\ud800 é 解")


@pytest.mark.parametrize("width", [0, 1, 3, 4, 5, 19, 20, 21])
def test_a_shortened_text_keeps_its_ends_and_its_width(width: int) -> None:
    """At every width the text fits, and from the cut on both ends are the original's."""
    text = "abcdefghijklmnopqrst"
    short = shortened(text, width)
    assert len(short) <= max(3, width)
    head, _, tail = short.partition("...")
    assert text.startswith(head)
    assert text.endswith(tail)


def test_a_text_that_fits_is_not_cut() -> None:
    """The limit itself is still whole."""
    assert "abc" == shortened("abc", 3)
