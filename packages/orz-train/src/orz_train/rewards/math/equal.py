r"""Decides whether an answer equals the expected one.

1. Equal text, after `normalise`.
2. Both are numbers: compared exactly. A percent sign is a factor of 1/100 or merely a unit, whichever fits, so
   `50\%` equals `0.5`, `\frac12` and `50`; but `50` and `0.5` differ.
3. Otherwise math-verify (which parses LaTeX into SymPy) compares expressions, sets, tuples, intervals, equations
   and matrices. What it can't parse equals nothing.

A rounded decimal never equals an exact value: `0.3333` is not `\frac13`, `1.4142` is not `\sqrt2`.

This can take forever (`9^9^9^9`); it has no time-out of its own, the worker that runs it is killed. It is not
symmetric: given `x=5` for an expected `5` the right-hand side is what counts.
"""

from __future__ import annotations

import logging

from math_verify import parse, verify  # type: ignore[import-untyped]
from math_verify.parser import LatexExtractionConfig  # type: ignore[import-untyped]

from orz_train.rewards.math.normalise import Number, normalise, parse_number

_MAX_CHARS = 1000
"""A longer answer is compared letter by letter; what models repeat in a loop is no expression."""

_ROUNDING_DIGITS = 12
"""Decimal places at which math-verify takes a decimal inside an expression for equal."""

_LATEX = (LatexExtractionConfig(boxed_match_priority=-1),)

logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its own time-out is off; ours is harder


def equal(expected: str, answer: str) -> bool:
    """Say whether `answer` means the same as `expected`; an empty one never does."""
    if max(len(expected), len(answer)) > _MAX_CHARS:
        return expected.strip() == answer.strip() != ""
    expected_text, answer_text = normalise(expected), normalise(answer)
    if not expected_text or not answer_text:
        return False
    if expected_text == answer_text:
        return True
    expected_number, answer_number = parse_number(expected_text), parse_number(answer_text)
    if expected_number and answer_number:
        return _same_number(expected_number, answer_number)
    return _same_expression(_latex(expected, expected_number), _latex(answer, answer_number))


def _same_number(one: Number, other: Number) -> bool:
    if one.percent == other.percent:
        return one.value == other.value
    percent, plain = (one.value, other.value) if one.percent else (other.value, one.value)
    return plain in (percent, percent / 100)


def _latex(answer: str, number: Number | None) -> str:
    r"""Return LaTeX for math-verify, which wants the exact text, but reads `1e3` as a product with e."""
    if number is None or number.percent:
        return answer.replace("\\$", "").replace("$", "").replace("\n", " ").strip()
    return f"\\frac{{{number.value.numerator}}}{{{number.value.denominator}}}"


def _same_expression(expected: str, answer: str) -> bool:
    parsed = [
        parse(
            f"${text}$",
            extraction_config=_LATEX,
            fallback_mode="no_fallback",
            extraction_mode="first_match",
            parsing_timeout=None,
        )
        for text in (expected, answer)
    ]
    return bool(verify(*parsed, float_rounding=_ROUNDING_DIGITS, timeout_seconds=None))
