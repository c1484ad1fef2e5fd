r"""Brings an answer's text into one shape, and reads it as an exact number where it is one.

Only typography goes: what can change a value stays. Commas stay too, unless they part groups of three digits:
`1,234` is 1234, while `1,2` is a pair and never 12.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

_MAX_NUMBER_CHARS = 200
"""Longer digit strings are left to the comparison of text and of expressions."""

_TYPOGRAPHY: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\\$|\$|\\\(|\\\)|\\\[|\\\]", ""),  # dollars and maths delimiters
        (r"[−‐‑–]", "-"),  # noqa: RUF001  # the minus signs and hyphens that models write
        (r"\\!\s*|\\displaystyle\b|\\(?:left|right|[bB]igg?[lr]?)(?=\s*(?:[()\[\]|.<>/]|\\))", ""),
        (r"(?<=\d)(?:\{,\}|\\,)(?=\d{3}(?!\d))", ","),  # 1{,}234 and 1\,234
        (r"\{,\}", ","),
        (r"\\[,;: ]|\\q?quad\b|~|\s", " "),
        (r"\\[dtc]frac(?![a-zA-Z])", r"\\frac"),
        (r"\s*(?:\^\s*\{?\s*\\circ\s*\}?|\\degree\b|°)", ""),
        (r"\\%", "%"),
    )
)
_WRAPPER = re.compile(r"\\(?:text(?:bf|it|rm|normal|sf|tt)?|math(?:rm|bf|it|sf|tt)|mbox|operatorname)\s*\{([^{}]*)\}")
_UNIT = re.compile(rf"(?<=[\d}}%])\s*{_WRAPPER.pattern}(?:\s*\^\s*\{{?\s*-?\d\s*\}}?)?$")
_LOOSE_SPACE = re.compile(r"(?<![A-Za-z0-9]) | (?![A-Za-z0-9])")
_FINAL_STOP = re.compile(r"\s*\.$")

_DIGITS = r"(?:[1-9]\d{0,2}(?:,\d{3})+|\d+)"
_DECIMAL = re.compile(rf"(?P<digits>{_DIGITS}(?:\.\d*)?|\.\d+)(?:[eE](?P<exponent>[+-]?\d{{1,3}}))?")
_FRAC_ARGUMENT = r"(?:\{([^{}]*)\}|\s*(\d))"
_FRAC = re.compile(rf"(?P<whole>\d+)?\s?\\frac{_FRAC_ARGUMENT}{_FRAC_ARGUMENT}")
_MIXED = re.compile(r"(\d+) (\d+)/(\d+)")


@dataclass(frozen=True, slots=True)
class Number:
    """An exact number as it was written."""

    value: Fraction
    percent: bool = False
    """Whether a percent sign follows; `value` is the number before it."""


def normalise(answer: str) -> str:
    r"""Strip typography from an answer.

    Goes: dollars, maths delimiters, `\left` and `\right`, thin and negative spaces, degree signs, a final full
    stop, a unit in `\text{}` or its like after a number, the wrapper around other text, spaces that part no words
    or digits. `\dfrac`, `\tfrac` and `\cfrac` become `\frac`.
    """
    text = answer.strip()
    for pattern, replacement in _TYPOGRAPHY:
        text = pattern.sub(replacement, text)
    text = _UNIT.sub("", _FINAL_STOP.sub("", text.strip()))
    text = _FINAL_STOP.sub("", _WRAPPER.sub(r"\1", text))
    return _LOOSE_SPACE.sub("", re.sub(r" +", " ", text)).strip()


def parse_number(text: str) -> Number | None:
    r"""Read a normalised answer as an exact number; None where it is something else.

    Read are integers, decimals and `1e3`, with thousands parted in groups of three; `a/b`, `\frac{a}{b}` and
    `\frac12` of those; mixed numbers such as `3\frac12` and `3 1/2`; a sign, and a percent sign at the end.
    """
    if not text or len(text) > _MAX_NUMBER_CHARS:
        return None
    value = _signed(text.removesuffix("%").strip(), _unsigned)
    return None if value is None else Number(value, percent=text.endswith("%"))


def _signed(text: str, read: Callable[[str], Fraction | None]) -> Fraction | None:
    body = text.lstrip("+-")
    value = read(body.strip())
    negative = text[: len(text) - len(body)].count("-") % 2
    return -value if value is not None and negative else value


def _unsigned(text: str) -> Fraction | None:
    if (decimal := _decimal(text)) is not None:
        return decimal
    if frac := _FRAC.fullmatch(text):
        whole, braced_top, top, braced_bottom, bottom = frac.groups()
        return _mixed(whole, braced_top or top or "", braced_bottom or bottom or "")
    if mixed := _MIXED.fullmatch(text):
        return _mixed(*mixed.groups())
    top, slash, bottom = text.partition("/")
    return _ratio(top, bottom) if slash else None


def _decimal(text: str) -> Fraction | None:
    decimal = _DECIMAL.fullmatch(text)
    if decimal is None:
        return None
    digits = decimal["digits"].replace(",", "").removesuffix(".")
    return Fraction(digits) * Fraction(10) ** int(decimal["exponent"] or 0)


def _mixed(whole: str | None, top: str, bottom: str) -> Fraction | None:
    r"""Read `3\frac12` as 7/2; where the fraction isn't a proper one, a product was meant: not a number to us."""
    ratio = _ratio(top, bottom)
    if whole is None or ratio is None:
        return ratio
    return int(whole) + ratio if 0 < ratio < 1 else None


def _ratio(top: str, bottom: str) -> Fraction | None:
    """Divide two decimals, each with a sign of its own."""
    above, below = (_signed(part.strip(), _decimal) for part in (top, bottom))
    return None if above is None or below is None or below == 0 else above / below
