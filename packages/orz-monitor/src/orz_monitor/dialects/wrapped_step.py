"""Metric lines of verl that were wrapped: `step:3 - actor/pg_loss:0.08 -`, and their rests on the lines below.

A terminal breaks a line at its width, wherever that is; rich and pagers break it between words. Ray's prefix stands
before the first piece only, or before each. A line is a rest if, put behind what came before, it makes items of it.
"""

from __future__ import annotations

import re
from typing import Final

import numpy as np
from numpy.typing import NDArray

from orz_monitor.transport.ansi import without_escapes
from orz_monitor.transport.lines import Line, Segment
from orz_monitor.transport.places import are
from orz_monitor.transport.prefixes import NOWHERE

_BETWEEN: Final = b" - "
_VALUE: Final = rb":(?:np\.\w{1,12}\()?(?:[-+]?(?:\d[\d.,]{0,40}(?:[eE][-+]?\d{1,4})?|nan|inf)|None|True|False)\)?"
_ITEM: Final = re.compile(rb"[^\s:]{1,200}" + _VALUE)
_ODD_ITEM: Final = re.compile(rb"\S{1,200}" + _VALUE)
"""With a key that holds a colon, too."""
_PART: Final = re.compile(rb"[^\s:]{0,200}(?::[-+\w.,()]{0,60})?")
"""An item that goes on."""
_ANOTHER: Final = re.compile(rb"(?:^|\s)step:\d")
_DASH: Final = (b"- ", b" -")
_LONGEST_BYTES: Final = 1 << 16


class WrappedStep:
    """One metric line, put together of its pieces.

    Attributes:
        body: what was put together so far; empty where nothing is held.
        line: number of the line that it begins on.
        first: the segment that it begins with.
    """

    def __init__(self) -> None:
        self.body = b""
        self.line = 0
        self.first = Segment(body=b"")
        self._width = self._length = self._prefix_bytes = 0

    def would_take(self, line: Line, following: Line) -> bool:
        """Tell whether a line is the rest of a metric line, holding neither."""
        if not line.segments:
            return False
        trial = WrappedStep()
        trial._width = self._width
        trial.begin(line.segments[-1], line)
        return trial.add(following) is not None

    @property
    def is_usual(self) -> bool:
        """Whether lines were seen that were broken at one width."""
        return self._width > 0

    def begin(self, segment: Segment, line: Line) -> None:
        """Take the first piece, the last segment of its line."""
        self.body, self.line, self.first = segment.body, line.number, segment
        self._length, self._prefix_bytes = _length(line.raw), max(line.raw.find(b"step:"), 0)

    def add(self, line: Line) -> Segment | None:
        """Put a line behind what is held; None where it is no rest, and else its segment that was."""
        if not line.segments or not self._takes(line, line.segments[0]):
            return None
        rest = line.segments[0]
        length = _length(line.raw)
        if length == self._length:
            self._width = length
        self._length = length
        self.body = _glued(self.body, rest.body)
        return rest

    def waits_after(self, line: Line) -> bool:
        """Tell whether a rest may come after a line that is none: an item is missing, and another process spoke."""
        others = [segment.origin for segment in line.segments if segment.origin not in {NOWHERE, self.first.origin}]
        return is_dangling(self.body) and 0 < len(others) == len(line.segments)

    def _takes(self, line: Line, rest: Segment) -> bool:
        """Tell whether a segment goes on with what is held."""
        piece, length = rest.body, _length(line.raw)
        if rest.origin not in {NOWHERE, self.first.origin} or _ANOTHER.search(piece):
            return False
        if len(self.body) + len(piece) > _LONGEST_BYTES:
            return False
        tail = self.body[self.body.rfind(_BETWEEN) + len(_BETWEEN) :] if _BETWEEN in self.body else self.body
        is_dashed = line.raw.startswith(_DASH) or line.raw.startswith(_DASH, self._prefix_bytes)
        by_words = is_dangling(self.body) or (is_dashed and piece.startswith(_DASH))
        if not by_words:
            is_usual = self._length == self._width
            if b":" not in piece and _BETWEEN not in piece and not is_usual:
                return False  # a number or a word: a line of its own as likely
            if _ODD_ITEM.fullmatch(tail) and not (is_usual or self._length == length):
                return False  # nothing is missing
        items = _glued(tail, piece).split(_BETWEEN)
        last = items.pop().rstrip().removesuffix(b" -")
        goes_on = length == max(self._width, self._length) and _PART.fullmatch(last) is not None
        return (
            all(map(_ODD_ITEM.fullmatch, items))
            and (by_words or not items or _ITEM.fullmatch(items[0]) is not None)
            and (not last or goes_on or (_ODD_ITEM if by_words or items else _ITEM).fullmatch(last) is not None)
        )


def is_dangling(body: bytes) -> bool:
    """Tell whether a piece ends where another item follows."""
    return body.rstrip().endswith(b" -")


def is_torn(items: bytes) -> bool:
    """Tell whether items are missing or broken: one has no value, or none follows where one should.

    Example:
        >>> [is_torn(items) for items in (b" - a:1 - b:nan", b" - a:1 -", b" - a:1 - crit")]
        [False, True, True]
    """
    return is_dangling(items) or any(b":" not in item for item in items.split(_BETWEEN) if item.strip())


def rests_follow(text: bytes, ends: NDArray[np.int64], prefix_bytes: int) -> NDArray[np.bool_]:
    """Tell which lines are followed by one that begins as the rest of a metric line does which is whole without it.

    Args:
        text: whole lines.
        ends: where the newlines of the lines stand, [M].
        prefix_bytes: how long what stands before each line is.
    """
    found = np.zeros(len(ends), dtype=np.bool_)
    for skipped in {0, prefix_bytes}:
        starts = np.minimum(ends + 1 + skipped, len(text) - len(_DASH[0]))
        for dash in _DASH:
            found |= are(text, dash, starts)
    return found


def _glued(before: bytes, rest: bytes) -> bytes:
    """Put two pieces together that were broken between words, or anywhere."""
    if is_dangling(before) or rest.startswith(b"- "):
        return before.rstrip() + b" " + rest.strip()
    return before + rest.rstrip()


def _length(raw: bytes) -> int:
    """Return how many characters of a line a terminal shows."""
    return len(without_escapes(raw).rstrip(b"\r"))
