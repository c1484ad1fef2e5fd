"""Metric lines of verl that were wrapped: `step:3 - actor/pg_loss:0.08 -`, and their rests on the lines below.

A terminal breaks a line at its width, wherever that is; rich and pagers break it between words. Ray's prefix stands
before the first piece only, or before each. Pieces are put together only where the log shows its width, or where the
key that results is known. Else the line is what it has for certain, and counts as one that was not read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from orz_monitor.transport.ansi import without_escapes
from orz_monitor.transport.lines import Line, Segment
from orz_monitor.transport.prefixes import NOWHERE

_BETWEEN: Final = b" - "
_NUMBER: Final = rb"[-+]?(?:\d{1,40}(?:\.\d{0,40})?(?:[eE][-+]?\d{1,4})?|nan|inf)"
_VALUE: Final = rb":(?:np\.\w{1,12}\(%b\)|%b|None|True|False)" % (_NUMBER, _NUMBER)
_ITEM: Final = re.compile(rb"[^\s:]{1,200}" + _VALUE)
_ODD_ITEM: Final = re.compile(rb"\S{1,200}" + _VALUE)
"""With a key that holds a colon, too."""
_PART: Final = re.compile(rb"[^\s:]{0,200}(?::[-+\w.()]{0,60})?")
"""An item that goes on."""
_ANOTHER: Final = re.compile(rb"(?:^|\s)step:\d")
_OF_ANOTHER: Final = re.compile(rb"\x1b\[36m\(\w{1,60} pid=\d{1,20}\)\x1b\[0m [^\r\x1b]*$")
"""A line of a process of Ray, and nothing but that; it is another one where it does not begin as the step's did."""
_LETTER: Final = re.compile(rb"[A-Za-z]")
_FIRST_BYTES: Final = np.isin(np.arange(256), np.frombuffer(b"0123456789.eE+- ", dtype=np.uint8))
"""Whether a rest behind a whole value may begin so."""
_OPEN: Final = re.compile(rb":(?:np\.[^)]{0,60}|[-+]?|[-+]?\d[\d.]{0,60}(?:\.|[eE][-+]?)|\d\.|np?|na|in?|[-+]in?)$")
"""A value that has no end."""
_NARROWEST: Final = 40
"""Characters of the narrowest terminal that is believed; shorter lines have one length by chance."""
_LONGEST_BYTES: Final = 1 << 16


class WrappedStep:
    """One metric line, put together of its pieces.

    Args:
        is_known: tells whether a key is one of the log's.

    Attributes:
        body: all that may belong to it; empty where nothing is held.
        line: number of the line that it begins on.
        first: the segment that it begins with.
    """

    def __init__(self, is_known: Callable[[bytes], bool]) -> None:
        self.body = b""
        self.line = 0
        self.first = Segment(body=b"")
        self._is_known = is_known
        self._pieces: list[bytes] = []
        self._lengths: list[int] = []
        self._width = self._prefix_bytes = 0

    @property
    def is_usual(self) -> bool:
        """Whether a rest is likely: lines were seen that were broken at one width, or this one was."""
        return self._width > 0 or len(self._pieces) > 1 or is_open(self.body)

    def begin(self, segment: Segment, line: Line) -> None:
        """Take the first piece, the last segment of its line."""
        self.body, self.line, self.first = segment.body, line.number, segment
        self._pieces, self._lengths = [segment.body], [_length(line.raw)]
        self._prefix_bytes = max(line.raw.find(b"step:"), 0)

    def add(self, line: Line) -> Segment | None:
        """Put a line behind what is held; None where it can't be a rest, and else its segment that may be."""
        if not line.segments or line.segments[0].origin not in {NOWHERE, self.first.origin}:
            return None
        rest, length = line.segments[0], _length(line.raw)
        if _ODD_ITEM.fullmatch(self.body[self.body.rfind(_BETWEEN) + 1 :].lstrip(b"- ")) and not any(
            _FIRST_BYTES[byte] for byte in (*line.raw[:1], *line.raw[self._prefix_bytes :][:1])
        ):
            return None  # as a scan sees it
        goes_on = length == max(self._width, *self._lengths)
        if len(self.body) + len(rest.body) > _LONGEST_BYTES or not may_be_rest(self.body, rest.body, goes_on=goes_on):
            return None
        self.body = _glued(self.body, rest.body)
        self._pieces.append(rest.body)
        self._lengths.append(length)
        return rest

    def waits_after(self, line: Line) -> bool:
        """Tell whether a rest may come after a line that is none: an item is missing, and another process spoke."""
        others = [segment.origin for segment in line.segments if segment.origin not in {NOWHERE, self.first.origin}]
        return is_dangling(self.body) and 0 < len(others) == len(line.segments)

    def certain(self) -> tuple[bytes, bool]:
        """Return what belongs to the line for certain, and whether more of it may be missing."""
        if self._is_at_width():
            self._width = max(self._lengths[:-1], default=self._width)
            return (self.body, is_torn(self.body)) if not is_open(self.body) else (_without_last(self.body), True)
        body = self._pieces[0]
        for piece in self._pieces[1:]:
            if not self._is_certain(body, piece):
                is_whole = is_dangling(body) or _is_dashed(piece)
                return (body if is_whole else _without_last(body)), True
            body = _glued(body, piece)
        return (_without_last(body), True) if is_open(body) else (body, is_torn(body))

    def _is_at_width(self) -> bool:
        """Tell whether all pieces were broken at one width, which several of them show, or those before did."""
        *full, last = self._lengths
        if not full or _has_twice(self.body):
            return False
        width = max(full)
        if last > width or width < _NARROWEST or (len(full) == 1 and width != self._width):
            return False
        return all(length == width for length in full) or (
            len(full) > 1 and _are_filled(self._pieces, self._lengths, width)
        )

    def _is_certain(self, before: bytes, piece: bytes) -> bool:
        """Tell whether a piece goes on with a line whatever the width is: the key that results is known."""
        dangling = is_dangling(before)
        tail = b"" if dangling else before[before.rfind(_BETWEEN) + len(_BETWEEN) :]
        if b":" in tail or _has_twice(_glued(before, piece)):
            return False
        key, mark, _ = (tail + piece.strip()).partition(b":")
        if not mark or not _LETTER.search(key):
            return False
        return self._is_known(key) or (dangling and b"/" in key)


def may_be_rest(before: bytes, piece: bytes, *, goes_on: bool = False) -> bool:
    """Tell whether a line may be the rest of a metric line: put behind it, it makes items of it.

    Args:
        before: the metric line so far.
        piece: what stands on the next line.
        goes_on: whether that line is full, so that it may end within an item.

    Example:
        >>> [may_be_rest(b"step:3 - lr:1", rest) for rest in (b"e-06 - kl:2", b"- kl:2", b"saved", b"loss:42")]
        [True, True, False, False]
    """
    if not piece.strip() or _ANOTHER.search(piece):
        return False
    tail = before[before.rfind(_BETWEEN) + len(_BETWEEN) :] if _BETWEEN in before else before
    by_words = is_dangling(before) or _is_dashed(piece)
    if not by_words and _ODD_ITEM.fullmatch(tail) and not _FIRST_BYTES[piece[0]]:
        return False  # nothing is missing
    items = _glued(tail, piece).split(_BETWEEN)
    last = items.pop().rstrip().removesuffix(b" -")
    ends = not last or _ODD_ITEM.fullmatch(last) is not None or (goes_on and _PART.fullmatch(last) is not None)
    is_begun = by_words or (_ITEM if items or not goes_on else _PART).fullmatch(items[0] if items else last) is not None
    return ends and is_begun and all(map(_ODD_ITEM.fullmatch, items))


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


def rests_may_follow(text: bytes, ends: NDArray[np.int64], prefix: bytes) -> NDArray[np.bool_]:
    """Tell which metric lines may have a rest on the line below, so that they can't be read alone.

    Args:
        text: whole lines.
        ends: where the newlines of the lines stand, [M].
        prefix: what stands before each metric line.
    """
    codes = np.frombuffer(text, dtype=np.uint8)
    codes_before = codes[np.maximum(ends - 1, 0)]
    found: NDArray[np.bool_] = (ends + 1 >= len(text)) | (codes_before == ord("."))
    begins = np.zeros(len(ends), dtype=np.bool_)
    for skipped in {0, len(prefix)}:
        begins |= _FIRST_BYTES[codes[np.minimum(ends + 1 + skipped, len(text) - 1)]]
    for index in np.flatnonzero(begins & ~found).tolist():
        found[index] = rest_may_follow(text, int(ends[index]), prefix)
    return found


def rest_may_follow(text: bytes, end: int, prefix: bytes) -> bool:
    """Tell whether the line that ends at a newline may have its rest on the line below."""
    below = text[end + 1 : text.find(b"\n", end + 1)]
    if below.startswith((b"step:", prefix + b"step:")):
        return False
    if not below.startswith(prefix) and _OF_ANOTHER.match(below):
        return False
    words = below.removeprefix(prefix).strip()
    if (
        b" " in words
        and b"- " not in words
        and not words.endswith(b" -")
        and b"\x1b" not in words
        and b"\r" not in words
    ):
        return False  # a sentence: told at once, for many lines are
    line = Line(below)
    before = text[text.rfind(b"\n", 0, end) + 1 : end]
    return any(may_be_rest(before, segment.body, goes_on=True) for segment in line.segments[:1])


def _are_filled(pieces: Sequence[bytes], lengths: Sequence[int], width: int) -> bool:
    """Tell whether pieces were broken between words, each as late as a width allows."""
    return all(
        (is_dangling(before) or piece.startswith(b"- ")) and length + 1 + len(piece.split(maxsplit=1)[0]) > width
        for before, piece, length in zip(pieces, pieces[1:], lengths, strict=False)
    )


def _has_twice(body: bytes) -> bool:
    """Tell whether a line has a key twice."""
    keys = [item.rpartition(b":")[0] for item in body.split(_BETWEEN) if b":" in item]
    return len(set(keys)) < len(keys)


def is_open(body: bytes) -> bool:
    """Tell whether the last value of a line has no end."""
    return _OPEN.search(body[body.rfind(_BETWEEN) + 1 :]) is not None


def _is_dashed(piece: bytes) -> bool:
    """Tell whether a piece begins with what stands between items."""
    return piece.lstrip().startswith(b"- ") or piece.strip() == b"-"


def _without_last(body: bytes) -> bytes:
    """Leave the last item out."""
    return body[: body.rfind(_BETWEEN)] if _BETWEEN in body else body


def _glued(before: bytes, rest: bytes) -> bytes:
    """Put two pieces together that were broken between words, or anywhere."""
    if is_dangling(before) or rest.startswith(b"- "):
        return before.rstrip() + b" " + rest.strip()
    return before + rest.rstrip()


def _length(raw: bytes) -> int:
    """Return how many characters of a line a terminal shows."""
    return len(without_escapes(raw).rstrip(b"\r"))
