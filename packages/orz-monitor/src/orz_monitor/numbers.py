"""Numbers as logs print them, and how precisely they were printed.

A log is text: `0.000` is not zero, it is less than half of the last digit. Each series keeps the precision of its
tokens, from which the quantum of every value follows.
"""

from __future__ import annotations

import math
import re
from array import array
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

Kind: TypeAlias = Literal["exact", "fixed", "significant"]

_SAMPLES: Final = 64
"""Tokens of a key that are looked at; a logger does not change its format."""
_EXACT_DIGITS: Final = 9
"""From this many significant digits on, a value was printed in full."""
_MOST_FIXED: Final = 6
"""More decimals than this are nobody's format: the values happen to be as long as each other."""
_ENOUGH: Final = 16
"""So many values are not as long as each other by chance."""
_PLAIN: Final = re.compile(rb"[-+]?(\d*)\.?(\d*)(?:[eE]([-+]?\d{1,4}))?$")
_WRAPPED: Final = re.compile(
    rb"(?:np\.|numpy\.|torch\.|jnp\.)?(?:float(?:16|32|64)?|u?int(?:8|16|32|64)?|bool_?|tensor|array|Array|Decimal)"
    rb"\(\[?(?P<inner>[^,()\[\]]{1,40})\]?(?:,[^()]{0,200})?\)$"
)
_UNIT: Final = re.compile(
    rb"(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?) ?(?P<unit>[A-Za-z%/_]{1,16}(?: [A-Za-z/_]{1,16})?)$"
)
_THOUSANDS: Final = re.compile(rb"[-+]?[1-9]\d{0,2}(?:,\d{3}){1,8}(?:\.\d{1,20})?$")
_SPAN: Final = re.compile(rb"(?:(\d{1,6})d ?)?(?:(\d{1,6})h ?)?(?:(\d{1,6})m ?)?(?:(\d{1,6}(?:\.\d{1,6})?)s)?$")
UNITS: Final = {
    b"%": 0.01,
    b"s": 1.0,
    b"sec": 1.0,
    b"secs": 1.0,
    b"seconds": 1.0,
    b"ms": 1e-3,
    b"us": 1e-6,
    b"ns": 1e-9,
    b"m": 60.0,
    b"min": 60.0,
    b"mins": 60.0,
    b"minutes": 60.0,
    b"h": 3600.0,
    b"hours": 3600.0,
    b"d": 86400.0,
    b"days": 86400.0,
    b"KiB": 2.0**10,
    b"MiB": 2.0**20,
    b"GiB": 2.0**30,
    b"TiB": 2.0**40,
    b"kB": 1e3,
    b"KB": 1e3,
    b"MB": 1e6,
    b"GB": 1e9,
    b"TB": 1e12,
}
"""Units that change the value: shares become fractions, times seconds, sizes bytes."""
_PREFIXES: Final = {b"k": 1e3, b"K": 1e3, b"M": 1e6, b"G": 1e9, b"T": 1e12}
_COUNTED: Final = frozenset(
    b" x it iter iters step steps tok toks token tokens sample samples seq seqs req reqs prompt prompts row rows item "
    b"items episode episodes example examples FLOP FLOPs FLOPS".split(b" ")
)
"""What is counted, which leaves a value as it is; before a slash, too: `it/s`. Other words are no known unit: a value
with one of them (`7B`: bytes or billions?) is not read, since guessing would be wrong by orders of magnitude."""
_WORDS: Final = {b"True": 1.0, b"False": 0.0, b"NaN": math.nan, b"Infinity": math.inf, b"-Infinity": -math.inf}


_FLOATS: Final = msgspec.json.Decoder(list[float])
"""Reads a list of numbers four times as fast as `float` does, where all of them are as JSON writes them."""


def floats(text: bytes) -> array[float] | None:
    """Read plain numbers with commas between them; None if one is not.

    Example:
        >>> floats(b"1e-06,nan,2.").tolist()
        [1e-06, nan, 2.0]
    """
    try:
        return array("d", _FLOATS.decode(b"[" + text + b"]"))
    except msgspec.MsgspecError:
        pass  # NaN, infinity, and what Python writes otherwise than JSON
    if b"_" in text:
        return None  # `1_000` is a number in Python's source only
    try:
        return array("d", map(float, text.split(b",")))
    except ValueError:
        return None


def integers_at(text: bytes, places: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Read the digits from some places of a text on, [M], up to a byte that is none.

    Returns:
        The numbers and how many digits each has, [M] each; digits beyond the sixteenth are left out of both.

    Example:
        >>> [found.tolist() for found in integers_at(b"step:12 - loss:05", np.array([5, 15, 0]))]
        [[12, 5, 0], [2, 2, 0]]
    """
    characters = np.frombuffer(text, np.uint8)
    values, counts = np.zeros_like(places), np.zeros_like(places)
    inside = np.ones(len(places), dtype=np.bool_)
    for offset in range(16):
        at = np.minimum(places + offset, len(text) - 1)
        digits = characters[at] - np.uint8(ord("0"))  # what is below "0" becomes large
        inside &= (digits < 10) & (at == places + offset)  # noqa: PLR2004 - there are ten digits
        if not inside.any():
            break
        values = np.where(inside, 10 * values + digits, values)
        counts += inside
    return values, counts


def number(token: bytes) -> float | None:
    """Read one printed value in base units (fractions, seconds, bytes); None where it is no number.

    Example:
        >>> [number(t) for t in (b"np.float64(0.01)", b"'4.2e-05'", b"5.4%", b"1h 5m", b"tensor(2., device='cuda:0')")]
        [0.01, 4.2e-05, 0.054000000000000006, 3900.0, 2.0]
        >>> number(b"None") is None
        True
    """
    try:
        return float(token) if b"_" not in token else _odd(token.strip())
    except ValueError:
        return _odd(token.strip())


def _odd(token: bytes) -> float | None:
    """Read a value that is more than a plain number."""
    if len(token) > 300:  # noqa: PLR2004 - no number is that long
        return None
    if token[:1] in {b"'", b'"'} and token[-1:] == token[:1]:
        token = token[1:-1].strip()
    if token in _WORDS:
        return _WORDS[token]
    if match := _WRAPPED.match(token):
        return _simple(match["inner"].strip(b"'\" "))
    if match := _UNIT.match(token):
        scale = _scale(match["unit"])
        return float(match["number"]) * scale if scale is not None else None
    if (match := _SPAN.match(token)) and any(match.groups()):
        days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
        return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    return _simple(token)


def _scale(unit: bytes) -> float | None:
    """Return what one of a unit is in base units, per whatever stands behind a slash; None for an unknown one.

    Example:
        >>> [_scale(unit) for unit in (b"ms", b"s/it", b"k", b"k tokens/s", b"GB/s", b"B")]
        [0.001, 1.0, 1000.0, 1000.0, 1000000000.0, None]
    """
    what = unit.partition(b"/")[0].replace(b" ", b"")
    if what in UNITS:
        return UNITS[what]
    if what in _COUNTED:
        return 1.0
    return _PREFIXES.get(what[:1]) if what[1:] in _COUNTED else None


def _simple(token: bytes) -> float | None:
    """Read a plain number, perhaps with commas between thousands, or one of the words."""
    try:
        return float(token) if b"_" not in token else None
    except ValueError:
        return float(token.replace(b",", b"")) if _THOUSANDS.match(token) else _WORDS.get(token)


@dataclass(kw_only=True, slots=True)
class Precision:
    """How the values of one key are printed, learnt from its first tokens.

    Attributes:
        num_samples: tokens looked at.
        decimals: fewest and most digits after the point.
        digits: most significant digits.
        exponents: whether a token had an exponent.
        padded: whether a token ended in zeros that only a fixed format writes, as in `0.500`.
        unit: what one unit of the printed number is: 0.01 for percentages.
    """

    num_samples: int = 0
    decimals: tuple[int, int] = (99, 0)
    digits: int = 0
    exponents: bool = False
    padded: bool = False
    unit: float = 1.0

    @property
    def settled(self) -> bool:
        """Whether enough tokens were seen."""
        return self.num_samples >= _SAMPLES

    def observe(self, token: bytes) -> None:
        """Learn from one token."""
        if self.num_samples >= _SAMPLES:
            return
        token = token.strip().strip(b"'\"")
        match = _PLAIN.match(token)
        if match is None:
            if found := _UNIT.match(token):
                self.unit = _scale(found["unit"]) or 1.0
            match = _PLAIN.match(_naked(token))
        if match is None or not (match[1] or match[2]):
            return
        after = len(match[2])
        self.num_samples += 1
        self.decimals = (min(self.decimals[0], after), max(self.decimals[1], after))
        self.digits = max(self.digits, len((match[1] + match[2]).lstrip(b"0")))
        self.exponents = self.exponents or match[3] is not None
        self.padded = self.padded or (after > 1 and match[2].endswith(b"0"))

    def merge(self, other: Precision) -> None:
        """Take in what another part of the log showed."""
        if self.num_samples == 0:
            self.unit = other.unit
        self.num_samples += other.num_samples
        self.decimals = (min(self.decimals[0], other.decimals[0]), max(self.decimals[1], other.decimals[1]))
        self.digits = max(self.digits, other.digits)
        self.exponents = self.exponents or other.exponents
        self.padded = self.padded or other.padded

    @property
    def kind(self) -> Kind:
        """`fixed`: so many decimals; `significant`: so many digits; `exact`: all there are."""
        fewest, most = self.decimals
        padded = self.padded or self.num_samples >= _ENOUGH
        only_zeros = self.digits == 0 and most <= 1  # `0.0` is how Python writes a zero
        if self.num_samples and 0 < fewest == most <= _MOST_FIXED and padded and not (self.exponents or only_zeros):
            return "fixed"
        if self.num_samples == 0 or self.digits >= _EXACT_DIGITS or only_zeros:
            return "exact"
        return "significant" if most or self.exponents else "exact"  # counts

    def quanta(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the size of the last printed digit of each value, [K]; 0 where it was printed in full.

        Example:
            >>> seen = Precision()
            >>> for token in (b"0.100", b"0.000"):
            ...     seen.observe(token)
            >>> seen.quanta(np.array([0.1, 0.0])).tolist()
            [0.001, 0.001]
        """
        match self.kind:
            case "exact":
                return np.broadcast_to(0.0, len(values))  # one number, however many values there are
            case "fixed":
                return np.broadcast_to(self.unit * 10.0 ** -self.decimals[1], len(values))
            case "significant":
                size = np.abs(values)
                usable = (size > 0) & np.isfinite(size)
                exponent = np.floor(np.log10(np.where(usable, size, 1.0)))
                return np.where(usable, 10.0 ** (exponent - max(self.digits, 1) + 1), 0.0)


def _naked(token: bytes) -> bytes:
    """Take wrappers and units off a token."""
    if match := _WRAPPED.match(token):
        return match["inner"].strip(b"'\" ")
    if match := _UNIT.match(token):
        return match["number"]
    return token
