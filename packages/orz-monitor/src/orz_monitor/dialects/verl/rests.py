"""What may be the rest of a metric line of verl, told by the line below alone."""

from __future__ import annotations

import re
from typing import Final

import numpy as np
from numpy.typing import NDArray

from orz_monitor.dialects.verl.items import (
    BETWEEN,
    ITEM,
    ODD_ITEM,
    PART,
    STEP,
    ends_in_key,
    glued,
    is_dangling,
    is_dashed,
    last_item,
    without_last,
)
from orz_monitor.dialects.verl.own_prefix import OwnPrefix
from orz_monitor.dialects.verl.restarts import restart_in
from orz_monitor.transport.lines import Line
from orz_monitor.transport.places import are

_OF_PROCESS: Final = re.compile(
    rb"(?:\x1b\[\d{1,3}m){0,2}(?P<process>\(\w{1,60} pid=\d{1,20}(?:, ip=[\d.:]{1,40})?\))(?:\x1b\[0m)? "
    rb"(?P<words>[^\r\x1b]*)$"
)
"""A line of a process of Ray, and nothing but that; it is another one where the step's line does not name it."""
_WITHOUT_PREFIX: Final = re.compile(rb"\s*\([^()]{1,80} pid=\d[^()]{0,60}\)\s*$")
"""What a process of Ray puts before its line, where that begins within another one."""
_BAR: Final = b"Training Progress:"
_BEGINS_REST: Final = np.isin(np.arange(256), np.frombuffer(b"0123456789.eE+- ", dtype=np.uint8))
"""Whether a rest behind a whole value may begin so."""
_ENDS_KEY: Final = np.array([ends_in_key(bytes([byte])) for byte in range(256)])
"""Whether a key that `step` completes may end so where a line is broken."""
_BEGINS_LINE: Final = _BEGINS_REST | np.isin(np.arange(256), np.frombuffer(b"\x1b([", dtype=np.uint8))
"""Whether its line may: a colour stands before it, a process that was printed in another colour above, or a rank."""


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
    if not piece.strip() or (STEP.match(piece) and not ends_in_key(before)):
        return False
    if b"step:" in piece and (restart := restart_in(glued(before, piece))) is not None:
        if restart.at <= len(before):
            return False
        piece, goes_on = piece[: restart.at - len(before)], True
        piece = without_last(piece) if BETWEEN in piece else _WITHOUT_PREFIX.sub(b"", piece)
        if not piece.strip():
            return False
    tail = before[before.rfind(BETWEEN) + len(BETWEEN) :] if BETWEEN in before else before
    by_words = is_dangling(before) or is_dashed(piece)
    if not by_words and ODD_ITEM.fullmatch(tail) and not _BEGINS_REST[piece[0]]:
        return False  # nothing is missing
    items = glued(tail, piece).split(BETWEEN)
    last = items.pop().rstrip().removesuffix(b" -")
    ends = not last or ODD_ITEM.fullmatch(last) is not None or (goes_on and PART.fullmatch(last) is not None)
    is_begun = by_words or (ITEM if items or not goes_on else PART).fullmatch(items[0] if items else last) is not None
    return ends and is_begun and all(map(ODD_ITEM.fullmatch, items))


def has_items_of(before: bytes, piece: bytes) -> bool:
    """Tell whether a line that is no rest, since something in it is no item, has items of the metric line above.

    Example:
        >>> [has_items_of(b"step:3 - lr:1", line) for line in (b"- by:hand - kl:2", b"2 - by:hand - kl:2", b"2 - done")]
        [True, True, False]
    """
    if not piece.strip() or not _BEGINS_REST[piece[0]] or BETWEEN not in piece.lstrip():
        return False
    first, *items = glued(last_item(before), piece).split(BETWEEN)
    return ODD_ITEM.fullmatch(first) is not None and any(map(ODD_ITEM.fullmatch, items))


def begins_as_rest(raw: bytes, prefix: bytes) -> bool:
    """Tell whether a line begins as a rest behind a whole value may, behind the step's prefix, or a part of it."""
    return raw[:1] == prefix[:1] or any(_BEGINS_LINE[byte] for byte in (*raw[:1], *raw[len(prefix) :][:1]))


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
    begins_line = _BEGINS_LINE.copy()
    begins_line[list(prefix[:1])] = True  # a logger puts the same before the rest, with other numbers in it
    begins = begins_line[codes[np.minimum(ends + 1, len(text) - 1)]]
    begins |= _BEGINS_LINE[codes[np.minimum(ends + 1 + len(prefix), len(text) - 1)]]
    begins &= ~_are_of_others(text, ends + 1, prefix)
    for index in np.flatnonzero(begins & ~found).tolist():
        found[index] = rest_may_follow(text, int(ends[index]), prefix)
    return found


def may_complete_keys(text: bytes, begins: NDArray[np.int64], above: bytes, prefix: bytes) -> NDArray[np.bool_]:
    """Tell which lines that look like steps may be no steps: the line above ends within a key.

    Args:
        text: whole lines.
        begins: where those lines begin, [M].
        above: the line above the text.
        prefix: what stands before each metric line.
    """
    codes = np.frombuffer(text, dtype=np.uint8)
    found = np.asarray(begins == 0) | _ENDS_KEY[codes[np.maximum(begins - 2, 0)]]
    for index in np.flatnonzero(found).tolist():
        end = int(begins[index]) - 1
        line = text[text.rfind(b"\n", 0, end) + 1 : end] if end > 0 else above
        found[index] = ends_in_key(line.removeprefix(prefix))
    return np.asarray(found)


def rest_may_follow(text: bytes, end: int, prefix: bytes) -> bool:
    """Tell whether the line that ends at a newline may have its rest on the line below."""
    below = text[end + 1 : text.find(b"\n", end + 1)]
    words = below.removeprefix(prefix)
    before = text[text.rfind(b"\n", 0, end) + 1 : end].removeprefix(prefix)
    if STEP.match(words):
        return ends_in_key(before)
    if len(words) == len(below) and (match := _OF_PROCESS.match(below)):
        if match["process"] not in prefix:
            return False
        words = match["words"]
    if _is_sentence(words.strip()):
        return False  # told at once, for many lines are
    line = Line(below)
    own = OwnPrefix(prefix).rest_on(line)
    rests = [(own or segment).body for segment in line.segments[:1]]
    return any(may_be_rest(before, rest, goes_on=True) or has_items_of(before, rest) for rest in rests)


def _are_of_others(text: bytes, begins: NDArray[np.int64], prefix: bytes) -> NDArray[np.bool_]:
    """Tell which lines are of another process of Ray than a prefix, in its colour; many are, and are told at once."""
    head, bracket, _ = prefix.partition(b"(")
    process = prefix[: prefix.find(b")", len(head)) + 1]
    found = np.zeros(len(begins), dtype=np.bool_)
    if bracket and process:
        room = np.flatnonzero(begins + len(process) <= len(text))
        at = begins[room]
        found[room] = are(text, head + bracket, at) & ~are(text, process, at)
    return found


def _is_sentence(words: bytes) -> bool:
    """Tell whether words are no items, have no prefix that could be taken off, and no bar is glued to them."""
    return (
        b" " in words
        and not words[:1].isdigit()
        and (b"|" not in words or words.startswith(_BAR))
        and not words.endswith(b" -")
        and not any(mark in words for mark in (b"- ", b"\x1b", b"\r"))
    )
