"""Extraction, numbers and scores on generated input."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orz_train.rewards.base import MAX_REWARD, to_score
from orz_train.rewards.math.extract import boxed_in_answer, last_boxed
from orz_train.rewards.math.normalise import normalise, parse_number
from orz_train.types import ScoreStatus

pytestmark = pytest.mark.property

TOKENS = st.lists(
    st.sampled_from(["\\boxed{", "{", "}", "\\{", "\\}", "\\\\", "<answer>", "</answer>", "7", " ", "x", "\n"])
).map("".join)


def _balanced(text: str) -> bool:
    """Check braces the slow way: one character at a time, escapes skipped."""
    depth, index = 0, 0
    while index < len(text):
        depth += {"{": 1, "}": -1}.get(text[index], 0)
        if depth < 0:
            return False
        index += 2 if text[index] == "\\" else 1
    return depth == 0


@given(TOKENS)
def test_a_box_is_balanced_and_stands_in_the_text(text: str) -> None:
    """Whatever is found stands in a box in the text, and its braces balance."""
    found = last_boxed(text)
    if found is not None:
        assert _balanced(found)
        assert found in text


@given(TOKENS, st.sampled_from(["7", r"\frac{1}{2}", r"\{1\}"]), TOKENS.map(lambda text: text.replace("</answer>", "")))
def test_what_stands_before_the_answer_does_not_matter(before: str, answer: str, thoughts: str) -> None:
    """A well-formed answer at the end is found, whatever was thought before."""
    thoughts = thoughts.replace("<answer>", "").replace("\\boxed{", "").replace("{", "").replace("\\", "")
    assert answer == boxed_in_answer(f"{before} {thoughts} <answer> \\boxed{{{answer}}} </answer>")


@given(TOKENS.map(lambda text: text.replace("</answer>", "")))
def test_without_a_closed_block_there_is_no_answer(text: str) -> None:
    """A response that closes no answer block has no answer."""
    assert boxed_in_answer(text) is None


@given(st.integers(-(10**12), 10**12), st.integers(1, 10**6))
def test_every_way_to_write_a_number_reads_the_same(top: int, bottom: int) -> None:
    """Fractions, with and without LaTeX, signs and thousands separators, are exact."""
    value = Fraction(top, bottom)
    ways = [
        f"{top}/{bottom}",
        f"{top:,}/{bottom:,}",
        rf"\frac{{{top}}}{{{bottom}}}",
        rf"$\dfrac{{{-top}}}{{{-bottom}}}$",
    ]
    for text in ways:
        number = parse_number(normalise(text))
        assert number is not None
        assert value == number.value


@given(st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-(10**9), max_value=10**9))
def test_decimals_are_exact(value: object) -> None:
    """A decimal reads as the fraction it is, grouped or not."""
    for text in (f"{value:f}", f"{value:,f}"):
        number = parse_number(text)
        assert number is not None
        assert Fraction(str(value)) == number.value


@given(st.integers(0, 999), st.integers(0, 999))
def test_a_pair_is_no_number(one: int, other: int) -> None:
    """`1,2` is never 12: only groups of exactly three digits make one number."""
    text = f"{one},{other}"
    number = parse_number(text)
    if number is not None:
        assert len(str(other)) == 3
        assert one > 0
        assert number.value == one * 1000 + other


@given(st.text(max_size=60) | TOKENS)
def test_normalising_twice_changes_nothing_of_a_number(text: str) -> None:
    """Any text can be normalised and read, without an error; a number's normal form reads as the same number."""
    once = normalise(text)
    number = parse_number(once)
    if number is not None:
        assert number == parse_number(normalise(once))


@given(st.floats() | st.integers() | st.booleans() | st.none() | st.text() | st.lists(st.floats()))
def test_every_value_becomes_a_score(value: object) -> None:
    """A finite number is the reward; all else is an error with a reason and reward 0."""
    score = to_score(value)
    try:
        finite = isinstance(value, float | int) and abs(float(value)) <= MAX_REWARD
    except OverflowError:
        finite = False
    if finite:
        assert float(value) == score.reward  # type: ignore[arg-type]
        assert ScoreStatus.OK is score.status
    else:
        assert ScoreStatus.ERROR is score.status
        assert not score.reward
        assert score.facts["error"]
