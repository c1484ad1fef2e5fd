"""Normal form of answers, and exact numbers."""

from __future__ import annotations

from fractions import Fraction

import pytest

from orz_train.rewards.math.normalise import Number, normalise, parse_number

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("expected", "answer"),
    [
        ("5", " $5$ "),
        ("5", r"\(5\)"),
        ("5", r"\$5"),
        ("5", "5."),
        ("-5", "−5"),  # noqa: RUF001  # the minus sign of typography
        (r"\frac{1}{2}", r"\dfrac{1}{2}"),
        (r"\frac12", r"\tfrac12"),
        (r"(3,\frac{\pi}{2})", r"\left( 3, \frac{\pi}{2} \right)"),
        (r"\{1,2\}", r"\left\{ 1,\, 2 \right\}"),
        (r"\leftarrow", r"\leftarrow"),
        ("90", r"90^\circ"),
        ("90", r"90^{\circ}"),
        ("90", "90°"),
        ("50%", r"50 \%"),
        ("11,111", r"11,\! 111"),
        ("1,234", "1{,}234"),
        ("1,234", r"1\,234"),
        ("1,2", "1{,}2"),
        ("1 2", r"1\,2"),
        ("6", r"6 \text{ cm}"),
        ("6", r"6\mathrm{~m}^2"),
        ("6", r"6 \text{ m}^{-1}"),
        (r"\frac{1}{2}", r"\frac{1}{2}\text{ hours}"),
        ("A", r"\text{A}"),
        ("east", r"\text{ east }"),
        ("6:30 p.m", r"\text{6:30 p.m.}"),
        ("no real solution", r"\text{no  real solution}"),
        ("1 2", "1 2"),
        (r"3\sqrt{13}", r"3 \sqrt{13}"),
        ("x+1", "x + 1"),
        ("1,234", "1,234"),
        ("", "  "),
    ],
)
def test_normalise(expected: str, answer: str) -> None:
    """Typography goes; what can change a value stays."""
    assert expected == normalise(answer)


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        (Fraction(1234), "1234"),
        (Fraction(1234), "1,234"),
        (Fraction(1234567), "1,234,567"),
        (Fraction(2469, 2), "1,234.5"),
        (Fraction(0), "0"),
        (Fraction(0), "-0"),
        (Fraction(0), "-0.00"),
        (Fraction(1, 2), "0.5"),
        (Fraction(1, 2), ".5"),
        (Fraction(5), "5."),
        (Fraction(5), "+5"),
        (Fraction(5), "--5"),
        (Fraction(7), "007"),
        (Fraction(1000), "1e3"),
        (Fraction(1, 100), "1E-2"),
        (Fraction(1, 2), "1/2"),
        (Fraction(-1, 2), "-1/2"),
        (Fraction(-1, 2), r"\frac{-1}{2}"),
        (Fraction(-1, 2), r"-\frac{1}{2}"),
        (Fraction(1, 2), r"\frac12"),
        (Fraction(3, 4), r"\frac 34"),
        (Fraction(3, 4), r"\frac3{4}"),
        (Fraction(1000, 3), r"\frac{1,000}{3}"),
        (Fraction(7, 2), r"3\frac12"),
        (Fraction(-7, 2), r"-3\frac{1}{2}"),
        (Fraction(7, 2), "3 1/2"),
    ],
)
def test_numbers_are_read_exactly(expected: Fraction, text: str) -> None:
    """Every way to write a rational number gives the rational number."""
    assert Number(expected) == parse_number(text)


def test_a_percent_sign_is_kept_beside_the_number() -> None:
    """The comparison decides what a percent sign means."""
    assert Number(Fraction(25, 2), percent=True) == parse_number("12.5%")


@pytest.mark.parametrize(
    "text",
    [
        "", "1,2", "12,34", "1,23,456", "0,123", ",123", "1 2", "1.2.3", "5x", "x", "1/0", r"\frac{1}{0}", "1/2/3",
        r"3\frac{5}{2}", r"3\frac{-1}{2}", "1e9999", "9" * 201, "5 cm", "-", "%", "0x10", "1_000", "nan", "inf",
        "½", r"\frac{}{}", "2^3",
    ],
)  # fmt: skip
def test_what_is_no_number(text: str) -> None:
    """Lists, products, expressions and texts are no numbers; a comma parts groups of three and nothing else."""
    assert parse_number(text) is None
