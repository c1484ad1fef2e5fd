r"""What many pieces of a text have in common: the same words, with numbers and other gaps between.

Most lines of a log are one of a few, with other numbers. A template reads them at many places at once.

Example:
    >>> bar = Template([b"| ", COUNT, b"/", COUNT, b" [", Until(b",", 40), b", loss=", NUMBER, b"]"])
    >>> text = b"| 1/8 [00:10<01:10, loss=0.5]\n| 2/8 [00:20<01:00, loss=nan?\n"
    >>> fits = bar.read(text, np.array([0, 30]))
    >>> fits.ends.tolist(), fits.values[0].tolist(), [text[a:b] for a, b in fits.spans[0].tolist()]
    ([29, -1], [1.0, 8.0, 0.5], [b'00:10<01:10'])
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from orz_monitor.transport.scanning import SCANNER, Fits


@dataclass(frozen=True, slots=True)
class Number:
    """A number as Python and JSON write it, nan and inf among them; of at most `LONGEST_NUMBER` characters."""


@dataclass(frozen=True, slots=True)
class Count:
    """A whole number without a sign, of at most `LONGEST_COUNT` digits."""


@dataclass(frozen=True, slots=True)
class Until:
    """Whatever stands before a byte, on the same line and refresh; not nothing.

    Args:
        byte: what ends it; that byte is no part of it.
        most: so many bytes at most.
    """

    byte: bytes
    most: int


Part: TypeAlias = bytes | Number | Count | Until
NUMBER: Final = Number()
COUNT: Final = Count()
LONGEST_NUMBER: Final = 60
LONGEST_COUNT: Final = 15
"""In scan.c, too."""
_WORD_PATTERN: Final = rb"[nN][aA][nN]|[iI][nN][fF](?:[iI][nN][iI][tT][yY])?"
_NUMBER_PATTERN: Final = rb"((?>[-+]?(?:(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|%b)))" % _WORD_PATTERN
"""What was matched once is not given back, in part either: the longest number counts."""
_NO_FIT: Final = -1


class Template:
    """Reads pieces of text that differ in their gaps only.

    Args:
        parts: what stands one behind the other: literals, numbers, and gaps up to a byte.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        gaps = [part for part in parts if not isinstance(part, bytes)]
        self._numbers = [group for group, part in enumerate(gaps, 1) if isinstance(part, Number | Count)]
        self._gaps = [group for group, part in enumerate(gaps, 1) if isinstance(part, Until)]
        self._encoded = b"".join(map(_encoded, parts))
        self._parts = tuple(parts)

    @cached_property
    def _pattern(self) -> re.Pattern[bytes]:
        """All of it as a regular expression, with a group for each gap; rarely needed where there is a scanner."""
        return re.compile(b"".join(map(_as_pattern, self._parts)))

    def read(self, text: bytes, starts: NDArray[np.int64]) -> Fits:
        """Read at places of a text, [M]."""
        if SCANNER is None:
            shape = (len(starts), len(self._gaps), 2)
            fits = Fits(
                np.full(len(starts), _NO_FIT), np.zeros((len(starts), len(self._numbers))), np.zeros(shape, np.int64)
            )
            unsure: NDArray[np.intp] = np.arange(len(starts))
        else:
            fits, unsure = SCANNER.read(self._encoded, text, starts, len(self._numbers), len(self._gaps))
        for index, start in zip(unsure.tolist(), starts[unsure].tolist(), strict=True):
            self._read_one(text, start, index, fits)
        return fits

    def _read_one(self, text: bytes, start: int, index: int, fits: Fits) -> None:
        """Read at one place, by the pattern."""
        fits.ends[index] = _NO_FIT
        match = self._pattern.match(text, start) if 0 <= start <= len(text) else None
        numbers = [match[group] for group in self._numbers] if match is not None else []
        if match is None or max(map(len, numbers), default=0) > LONGEST_NUMBER:
            return
        fits.ends[index] = match.end()
        fits.values[index] = [*map(float, numbers)]
        for gap, group in enumerate(self._gaps):
            fits.spans[index, gap] = match.span(group)


def _encoded(part: Part) -> bytes:
    """Return a part as scan.c reads it: its kind, a number in four bytes, and bytes."""
    match part:
        case bytes():
            return b"L" + len(part).to_bytes(4, "little") + part
        case Until():
            return b"U" + part.most.to_bytes(4, "little") + part.byte
        case Number():
            return b"N" + bytes(4)
        case Count():
            return b"C" + bytes(4)


def _as_pattern(part: Part) -> bytes:
    """Return a part as a regular expression, with a group for each gap."""
    match part:
        case bytes():
            return re.escape(part)
        case Until():
            byte = re.escape(part.byte)
            return rb"([^%b\r\n]{1,%d}+)(?=%b)" % (byte, part.most, byte)
        case Number():
            return _NUMBER_PATTERN
        case Count():
            return rb"(\d{1,%d}+)(?!\d)" % LONGEST_COUNT
