"""Equality of answers."""

from __future__ import annotations

import time

import pytest

from orz_train.rewards.math.equal import equal

pytestmark = pytest.mark.unit

ORZ_TABLE = [  # (ours, ORZ's, expected, answer): orz.md, section 1.4; ORZ's verdicts were measured
    (True, True, r"\frac12", r"\frac{3}{6}"),
    (True, True, r"2\sqrt2", r"\sqrt8"),
    (True, True, "1024", "2^{10}"),
    (True, True, "A", r"\text{A}"),
    (True, True, "2x+1", "y=2x+1"),
    (False, True, "12", "1,2"),
    (True, False, "x^2+2x+1", "(x+1)^2"),
    (True, False, "10", "10%"),
    (True, True, "10", r"10\%"),
    (False, False, "3.14159", r"\pi"),
    (False, False, r"\pi", "3.14159"),
    (True, False, r"\{1,2\}", r"\{2,1\}"),
    (True, False, r"3\frac12", r"\frac72"),
    (False, False, r"\frac13", "0.3333"),
]


@pytest.mark.parametrize(("ours", "orz", "expected", "answer"), ORZ_TABLE)
def test_orz_table(ours: bool, orz: bool, expected: str, answer: str) -> None:
    """Our verdict on each pair that ORZ's checker was measured on; `functions.py` lists the differences."""
    assert ours == equal(expected, answer)


def test_differences_from_orz_are_the_documented_ones() -> None:
    """The docstring's table marks exactly the rows where we and ORZ differ."""
    from orz_train.rewards.math import functions  # noqa: PLC0415  # its docstring is the subject

    documented = [line for line in (functions.__doc__ or "").splitlines() if "| **" in line]
    different = [f"| `{expected}` | `{answer}` |" for ours, orz, expected, answer in ORZ_TABLE if ours != orz]
    assert sorted(different) == sorted(line[: line.index("| **") + 1] for line in documented)


@pytest.mark.parametrize(
    ("expected", "answer"),
    [
        ("1234", "1,234"),
        ("1,234", "1234.0"),
        ("58,500", r"\$58{,}500"),
        ("11,\\! 111,\\! 111,\\! 100", "11111111100"),
        ("0.5", "1/2"),
        ("1/2", r"\frac12"),
        (r"\frac12", r"\dfrac{1}{2}"),
        ("0.5", r"50\%"),
        (r"50\%", "0.5"),
        ("50", r"50\%"),
        (r"50\%", r"\frac12"),
        (r"12.5\%", "12.5%"),
        ("1000", "1e3"),
        ("10^3", "1e3"),
        ("0", "-0"),
        ("0", "-0.0"),
        ("6", r"6\text{ cm}"),
        ("5.4 \\text{ cents}", "5.4"),
        ("6", "6 cm"),
        ("90", r"90^\circ"),
        ("5", "x=5"),
        ("x=5", "5"),
        (r"\text{(C)}", "C"),
        (r"\text{Navin}", "Navin"),
        (r"\text{even}", "even"),
        (r"x \in [-2,7]", "[-2,7]"),
        (r"\left( 3, \frac{\pi}{2} \right)", r"(3,\pi/2)"),
        ("1,-2", "-2,1"),
        (r"1,-1", r"\pm 1"),
        ("1 - 12i", "-12i+1"),
        ("p - q", "-q+p"),
        (r"2\log_2 4", "4"),
        (r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", r"\begin{pmatrix}1&2\\3&\frac{8}{2}\end{pmatrix}"),
        ("x>2", "2<x"),
        ("4210_{5}", "4210_5"),
        ("120", "5!"),
    ],
)
def test_equal(expected: str, answer: str) -> None:
    """The same value in other notation is equal."""
    assert equal(expected, answer)


@pytest.mark.parametrize(
    ("expected", "answer"),
    [
        ("5", ""),
        ("", ""),
        ("", "5"),
        ("$$", "$$"),
        ("12", "1 2"),
        ("1234", "12,34"),
        ("3", "-3"),
        ("50", "0.5"),
        (r"50\%", "5"),
        ("5", "not 5"),
        ("5", "5 or 6"),
        ("5", "either 4 or 5"),
        ("5", r"\text{the answer is } 5"),
        ("5", "5x"),
        ("5", "?"),
        ("32", "3^2"),
        ("32", r"3\frac{2}{1}"),
        ("x", "y"),
        ("even", "odd"),
        (r"\text{east}", r"\text{west}"),
        ("A", "B"),
        ("(1,2)", "(2,1)"),
        ("[0,1)", "[0,1]"),
        ("(0,1)", "(0,1]"),
        ("1,2,3", "1,2"),
        (r"\frac13", "0.33333333333333"),
        (r"\sqrt2", "1.41421356"),
        ("0.1", "0.1000001"),
        ("0.00000001", "0.00000002"),
        ("10^{20}", "10^{20}+1"),
        (r"\infty", r"-\infty"),
        ("0", r"\frac{0}{0}"),
        ("5", r"\frac{"),
        ("5", "}{"),
        ("5", "\\"),
        ("5", r"\boxed{"),
        ("5", "{" * 300),
    ],
)
def test_not_equal(expected: str, answer: str) -> None:
    """Another value, no value, or something nobody can parse is not equal, and raises nothing."""
    assert not equal(expected, answer)


@pytest.mark.parametrize(
    ("expected", "answer"), [("(0,1)", r"\{0,1\}"), ("12", "12_3"), (r"6\text{ cm}", r"6\text{ m}")]
)
def test_known_leniency(expected: str, answer: str) -> None:
    """What `functions.py` lists as lenient is so; when it changes, the list must."""
    assert equal(expected, answer)


def test_long_answers_are_compared_as_text() -> None:
    """An answer of a looping model costs nothing, and equals only its own text."""
    loop = "1+" * 20_000 + "1"
    start = time.perf_counter()
    assert not equal("20001", loop)
    assert not equal("5", " " * 50_000 + "x" + "." * 50_000)
    assert equal(loop, f" {loop} ")
    assert time.perf_counter() - start < 1
