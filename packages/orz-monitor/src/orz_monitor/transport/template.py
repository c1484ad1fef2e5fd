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
"""Digits; larger numbers count nothing. Both limits stand in scan.c, too."""
NUMBER_PATTERN: Final = (
    rb"[-+]?(?:(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[nN][aA][nN]|[iI][nN][fF](?:[iI][nN][iI][tT][yY])?)"
)
"""What scan.c takes for a number; the longest one counts."""
_NUMBER: Final = re.compile(NUMBER_PATTERN)
_COUNT: Final = re.compile(rb"\d+")
_BREAK: Final = re.compile(rb"[\r\n]")
_NO_FIT: Final = -1


class Template:
    """Reads pieces of text that differ in their gaps only.

    Args:
        parts: what stands one behind the other: literals, numbers, and gaps up to a byte.
    """

    __slots__ = ("_encoded", "_num_spans", "_num_values", "_parts")

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = tuple(parts)
        self._num_values = sum(isinstance(part, Number | Count) for part in parts)
        self._num_spans = sum(isinstance(part, Until) for part in parts)
        self._encoded = b"".join(map(_encoded, parts))

    def read(self, text: bytes, starts: NDArray[np.int64]) -> Fits:
        """Read at places of a text, [M]."""
        if SCANNER is None:
            fits = Fits(
                ends=np.full(len(starts), _NO_FIT),
                values=np.zeros((len(starts), self._num_values)),
                spans=np.zeros((len(starts), self._num_spans, 2), np.int64),
            )
            unsure: NDArray[np.intp] = np.arange(len(starts))
        else:
            fits, unsure = SCANNER.read(self._encoded, text, starts, self._num_values, self._num_spans)
        for index, start in zip(unsure.tolist(), starts[unsure].tolist(), strict=True):
            fits.ends[index] = _NO_FIT
            found = self._read_one(text, start)
            if found is not None:
                fits.ends[index], fits.values[index], spans = found
                fits.spans[index] = np.array(spans, np.int64).reshape(-1, 2)
        return fits

    def _read_one(self, text: bytes, at: int) -> tuple[int, list[float], list[tuple[int, int]]] | None:
        """Read at one place, part by part; return what is behind it, its numbers and its gaps, or None."""
        if not 0 <= at <= len(text):
            return None
        values: list[float] = []
        spans: list[tuple[int, int]] = []
        for part in self._parts:
            end = _behind(part, text, at)
            if end is None:
                return None
            if isinstance(part, Until):
                spans.append((at, end))
            elif not isinstance(part, bytes):
                values.append(float(text[at:end]))
            at = end
        return at, values, spans


def _behind(part: Part, text: bytes, at: int) -> int | None:
    """Return what is behind a part that stands at a place; None where it does not stand there."""
    match part:
        case bytes():
            return at + len(part) if text.startswith(part, at) else None
        case Until():
            end = text.find(part.byte, at, at + part.most + 1)
            return end if end > at and _BREAK.search(text, at, end) is None else None
        case Number():
            match = _NUMBER.match(text, at, at + LONGEST_NUMBER + 1)
            return match.end() if match is not None and match.end() - at <= LONGEST_NUMBER else None
        case Count():
            match = _COUNT.match(text, at, at + LONGEST_COUNT + 1)
            return match.end() if match is not None and match.end() - at <= LONGEST_COUNT else None


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
