"""Two metric lines on one: a run died while it wrote the first, and the next run writes to the same file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from orz_monitor.dialects.verl.items import BETWEEN, ODD_ITEM, has_twice, last_item, without_last
from orz_monitor.transport.lines import Segment
from orz_monitor.transport.prefixes import NOWHERE, Origin, take_prefixes

_LATER_STEP: Final = re.compile(rb"step:(\d{1,15}) - ")
_PROCESS: Final = re.compile(rb"\(\w{1,60} pid=\d{1,20}(?:, ip=[\d.:]{1,40})?\)[ \t]?$")
_HAS_VALUE: Final = re.compile(rb":(?:[-+]?[\d.]*(?:[eE][-+]?\d*)?\)?|np?|np\.\w{0,12}\(?[-+.\w]*\)?|[A-Za-z]{1,5})$")
"""A value, or a part of one, as an item ends that was cut; a key that holds a colon goes on behind it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Restart:
    """Where on a metric line another one begins.

    Attributes:
        before: what of the first line is certain: its items but for the last, which was being written.
        at: bytes before the second line; its prefix is not part of it.
        origin: the process that wrote the second line, where its prefix says so.
    """

    before: bytes
    at: int
    origin: Origin


def restart_in(body: bytes) -> Restart | None:
    r"""Find the next metric line that was written behind a torn one; None where there is none.

    A key may end in `step`, too: it is a step where an item was cut before it, or where keys come again behind it.

    Example:
        >>> restart_in(b"step:6 - lr:1 - kl:0.0(TaskRunner pid=7) step:7 - lr:2 - kl:3").before
        b'step:6 - lr:1'
        >>> restart_in(b"step:6 - training/global_step:6 - training/epoch:1") is None
        True
    """
    own = _LATER_STEP.match(body)
    own_step, first = (int(own[1]), own.end() - len(BETWEEN)) if own is not None else (-1, len(body))
    in_key: list[int] = []
    for match in _LATER_STEP.finditer(body, 1):
        at = match.start()
        begin = body.rfind(BETWEEN, 0, at)
        tail = body[begin + len(BETWEEN) if begin >= 0 else 0 : at]
        if _is_cut(tail) or (not tail and (begin == first or own_step != int(match[1]))):
            return _restart(body, _first_cut(body, in_key, at))
        if begin == first and body.startswith(tail, match.end()) and int(match[1]) <= own_step + 1:
            return _restart(body, at)  # no run goes on later than with the step after
        in_key.append(at)
    at = _first_cut(body, in_key, len(body))
    return _restart(body, at) if at < len(body) else None


def behind(segment: Segment, restart: Restart) -> Segment:
    """Return the metric line that begins behind a torn one; when it was printed is not known."""
    origin = segment.origin if restart.origin is NOWHERE else restart.origin
    return replace(
        segment, body=segment.body[restart.at :], origin=origin, time=None, offset=segment.offset + restart.at
    )


def _is_cut(tail: bytes) -> bool:
    """Tell whether the item before a step was cut for certain: no key goes on with a blank, or behind a value."""
    return b" " in tail or b"\t" in tail or _HAS_VALUE.search(tail) is not None


def _first_cut(body: bytes, in_key: Sequence[int], end: int) -> int:
    """Return the place at which keys begin again, of those where a step may be the end of a key; else `end`."""
    if not in_key or not has_twice(body[:end]):
        return end
    ends: dict[bytes, int] = {}
    at = 0
    for item in body[:end].split(BETWEEN):
        key, mark, _ = item.rpartition(b":")
        if mark and key in ends:
            return max((place for place in in_key if ends[key] <= place < at), default=end)
        if at:
            ends[key] = at + len(item)
        at += len(item) + len(BETWEEN)
    return end


def _restart(body: bytes, at: int) -> Restart:
    """Return what is certain of the line before a place, and who wrote the one behind it."""
    before = body[:at]
    process = _PROCESS.search(before)
    prefix = take_prefixes(process.group())[0] if process is not None else None
    kept = without_last(before)
    while BETWEEN in kept and not ODD_ITEM.fullmatch(last_item(kept)):
        kept = without_last(kept)  # a logger's prefix may hold a dash
    return Restart(before=kept, at=at, origin=prefix.origin if prefix is not None else NOWHERE)
