"""One home-made line: its step, its named numbers, and whether it may be a trainer's."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from orz_monitor.dialects.generic.decimal_commas import has_decimal_commas, with_points
from orz_monitor.dialects.generic.evidence import is_object
from orz_monitor.dialects.generic.keys import ROUNDS, STEPS, plain, tells_of_training
from orz_monitor.dialects.generic.named_numbers import UNNAMED, NamedNumber, named_numbers
from orz_monitor.numbers import number
from orz_monitor.transport.lines import Segment

_LONGEST_BYTES: Final = 1 << 14
_HEADING: Final = re.compile(rb"[^A-Za-z]{0,80}[A-Za-z_ ]{2,20}[^A-Za-z]{0,80}")
"""A line with nothing but a step on it."""
_FEWEST_MARKED: Final = 3
_MOST_STEPS: Final = 10**12
_TOTAL: Final = re.compile(rb"/of(?:/\d{1,9})?$")
_PLAIN: Final = re.compile(rb"['\"]?\d[\d,]{0,20}(?:\.\d{0,12})?(?:[eE]\+?\d{1,2})?['\"]?")
_AT: Final = re.compile(r"^(?:at|info|debug)_")
"""What may stand before a step: `at step 3`, `INFO Step 3`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NamedLine:
    """What was read of one segment.

    Attributes:
        found: its named numbers but for the step.
        step: the step that it says, or None.
        total: how many steps there are, as it says, or None.
        round: the epoch or episode that it says, or None.
        is_lost: whether it says a step that is no whole number.
        begins: whether the step, or an epoch, is its first number.
        tells: whether a word of training names one of its numbers.
        counts: whether it is read, if the log is a trainer's.
        segment: where it was read.
        line: its number.
        has_commas: whether it has decimal commas.
        is_cut: whether it is longer than what was read of it.
        num_unnamed: how many of its numbers have no name; a total, as in `3/100`, is none of them.
    """

    found: list[NamedNumber]
    step: int | None
    total: int | None
    round: int | None
    is_lost: bool
    begins: bool
    tells: bool
    counts: bool
    segment: Segment
    line: int
    has_commas: bool
    is_cut: bool
    num_unnamed: int


def read_line(segment: Segment, line: int) -> NamedLine:
    """Read one segment, up to its first 16 KiB."""
    found = named_numbers(segment.body[:_LONGEST_BYTES])
    is_cut = len(segment.body) > _LONGEST_BYTES
    if is_cut:
        found = found[:-1]  # it may be half a number
    names = [_AT.sub("", plain(one.key.decode("utf-8", "replace"))) for one in found]
    steps = [at for at, name in enumerate(names) if name in STEPS]
    at = next((at for at in steps if _whole(found[at].token) is not None), None)
    total = _total(found, at)
    rest = [one for index, one in enumerate(found) if index != at and _is_named(one.key)]
    rounds = (_whole(one.token) for one, name in zip(found, names, strict=True) if name in ROUNDS)
    begins = bool(names) and (at == 0 or names[0] in ROUNDS)
    if at is not None and not rest and not _HEADING.fullmatch(segment.body):
        at = None  # words about a step
    if has_commas := has_decimal_commas(rest):
        rest = with_points(rest)
    is_settings = is_object(segment.body)
    return NamedLine(
        found=[] if is_settings else rest,
        step=_whole(found[at].token) if at is not None and not is_settings else None,
        total=total,
        round=next((number for number in rounds if number is not None), None),
        is_lost=at is None and bool(steps) and bool(rest),
        begins=begins,
        tells=not is_settings and any(_tells(one) for one in rest),
        counts=not is_settings and (begins or sum(one.is_marked for one in rest) >= _FEWEST_MARKED),
        segment=segment,
        line=line,
        has_commas=has_commas,
        is_cut=is_cut,
        num_unnamed=sum(_is_unnamed(one.key) for one in found),
    )


def _tells(one: NamedNumber) -> bool:
    """Tell whether a number is one of a trainer's."""
    return tells_of_training(one.key.decode("utf-8", "replace"), is_marked=one.is_marked)


def _is_named(key: bytes) -> bool:
    """Tell whether somebody printed this name: what stands behind a stroke, as in `3/100`, has none."""
    return key.partition(b"/")[0] != UNNAMED and not _TOTAL.search(key)


def _is_unnamed(key: bytes) -> bool:
    """Tell whether a number has no name, and is no total."""
    return key.partition(b"/")[0] == UNNAMED and not _TOTAL.search(key)


def _total(found: Sequence[NamedNumber], at: int | None) -> int | None:
    """Return how many steps there are, as the step at this place says: 100 of `step 3/100`."""
    if at is None or at + 1 == len(found) or found[at + 1].key != found[at].key + b"/of":
        return None
    return _whole(found[at + 1].token)


def _whole(token: bytes) -> int | None:
    """Return a plain whole number, also one with commas, a point or an exponent: `1,000`, `1000.0`, `1e3`."""
    value = number(token) if _PLAIN.fullmatch(token) else None
    return int(value) if value is not None and value.is_integer() and value < _MOST_STEPS else None
