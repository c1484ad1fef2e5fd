"""What shows that a home-made log is a trainer's: known metrics that recur, step after step, in lines of one form."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from orz_monitor.dialects.generic_keys import ONLY_TRAINERS, OTHERS, WEAK, known_name, plain
from orz_monitor.dialects.named_numbers import NamedNumber
from orz_monitor.numbers import number
from orz_monitor.transport.prefixes import Origin

_CALL: Final = re.compile(rb"\b[A-Za-z_]\w{0,60}\(\s{0,8}[A-Za-z_]\w{0,60}\s?=")
"""What Python prints of an object: `Namespace(lr=1e-4)`; of a setting, not of a step."""
_FEWEST_LINES: Final = 3
_FEWEST_KNOWN: Final = 2
_MOST_FORMS: Final = 1000
_REWARDED: Final = frozenset(["policy/kl_ref", "reward/mean"])
"""Both together are printed by trainers only."""

Place = tuple[int, int]
"""Epoch and step of a line; -1 where it has none."""
Form = tuple[Origin, tuple[str, ...]]
"""Who printed a line, and the keys on it."""


def is_object(body: bytes) -> bool:
    """Tell whether a line is a printed object of Python's, with settings in it.

    Example:
        >>> is_object(b"Namespace(lr=1e-4, kl=0.1)"), is_object(b"step 3 kl=0.1 (took=2)")
        (True, False)
    """
    return _CALL.search(body) is not None


def form_of(found: Sequence[NamedNumber], origin: Origin) -> Form:
    """Return the form of a line."""
    return origin, tuple(plain(one.key.decode("utf-8", "replace")) for one in found)


def is_evidence(found: Sequence[NamedNumber], *, has_place: bool) -> bool:
    """Tell whether the metrics of a line are those of a trainer, should they recur.

    Two have to be known, and not only a learning rate; one is enough if only trainers have it. A line without a step
    needs both. A loss in percent is one of packets.

    Args:
        found: its numbers, without the step.
        has_place: whether it has a step, an epoch or an episode, or stands below one.
    """
    keys = [one.key.decode("utf-8", "replace") for one in found if _is_value(one)]
    known = {name: key for key in keys if (name := known_name(key)) is not None}
    certain = any(plain(key) in ONLY_TRAINERS or known_name(key) in ONLY_TRAINERS for key in keys)
    certain = certain or known.keys() >= _REWARDED
    several = len(known) >= _FEWEST_KNOWN and not known.keys() <= WEAK
    if certain:
        return has_place or several
    return has_place and several and not any(_is_others(one.key) for one in found)


def _is_value(one: NamedNumber) -> bool:
    """Tell whether a number can be a metric's: it is one, of no things, and no loss in percent."""
    is_share = one.token.rstrip(b"'\"").endswith(b"%") and b"loss" in one.key.lower()
    return number(one.token) is not None and not is_share and not one.is_of_things


def _is_others(key: bytes) -> bool:
    """Tell whether a name is one of networks."""
    return not OTHERS.isdisjoint(re.findall(r"[a-z]+", key.decode("utf-8", "replace").lower()))


@dataclass(slots=True)
class _Seen:
    """How often lines of a form came in a row with rising steps, and where the last one was."""

    count: int
    place: Place | None


class Evidence:
    """Counts the lines of each form.

    Attributes:
        enough: whether a form came often enough.
    """

    def __init__(self) -> None:
        self.enough = False
        self._seen: dict[Form, _Seen] = {}
        self._num_lines = 0

    def take(self, form: Form | None, place: Place | None) -> None:
        """Take a line with numbers into account.

        Args:
            form: of a line that is evidence, and else None.
            place: where it is, or None where lines are counted.
        """
        self._num_lines += 1
        if form is None:
            return
        if (seen := self._seen.get(form)) is None:
            if len(self._seen) < _MOST_FORMS:
                self._seen[form] = _Seen(1, place)
            return
        if place is None or seen.place is None or _rises(seen.place, place):
            seen.count += 1
        elif place != seen.place:
            seen.count = 1
        seen.place = place
        self.enough = self.enough or seen.count >= _FEWEST_LINES

    def settles_for_two(self) -> bool:
        """Tell whether there are no more than two lines with numbers, of one form, at the end of a log."""
        return self._num_lines == _FEWEST_LINES - 1 and any(seen.count > 1 for seen in self._seen.values())

    def has(self, form: Form) -> bool:
        """Tell whether lines of a form came with metrics of a trainer."""
        return form in self._seen


def _rises(before: Place, after: Place) -> bool:
    """Tell whether a step or its epoch is a later one."""
    return after[1] > before[1] or after[0] > before[0]
