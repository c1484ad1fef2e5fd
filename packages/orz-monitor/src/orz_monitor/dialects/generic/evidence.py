"""What shows that a home-made log is a trainer's: known metrics that recur in lines with rising steps."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from orz_monitor.dialects.generic.keys import ONLY_TRAINERS, OTHERS, OTHERS_TOGETHER, WEAK, known_name, plain
from orz_monitor.dialects.generic.named_numbers import NamedNumber
from orz_monitor.numbers import number
from orz_monitor.transport.prefixes import Origin

_CALL: Final = re.compile(rb"\b[A-Za-z_]\w{0,60}\(\s{0,8}[A-Za-z_]\w{0,60}\s?=")
"""What Python prints of an object: `Namespace(lr=1e-4)`; of a setting, not of a step."""
_OTHER_PROGRAM: Final = re.compile(
    rb"\bUPDATE [^;\n]{1,200}?\bSET [\w.\"`]{1,60} ?="  # SQL
    rb"|\.py::[\w:]{1,200}\["  # a test of pytest with parameters
    rb"|\bStep \d{1,6}/\d{1,6} : (?:ARG|ENV|LABEL|RUN) "  # Docker builds an image
)
"""What other programs print around names and numbers that are none of their own steps."""
_NETWORK_RATE: Final = re.compile(rb"\d ?[kKMG]?i?(?:[Bb]its?/s|b/s|bps)\b")
"""A rate of networks: trainers count tokens, samples or bytes."""
FEWEST_LINES: Final = 3
"""In how many rising steps the metrics of a trainer come, at least."""
_FEWEST_KNOWN: Final = 2
_MOST_SEEN: Final = 10_000
_KEYS: Final = frozenset(name for name in ONLY_TRAINERS if "/" not in name)
"""Spellings that only trainers use, beside the metrics that they mean."""
_REWARDED: Final = frozenset(["policy/kl_ref", "reward/mean"])
"""Both together are printed by trainers only."""

Place = tuple[int, int]
"""Epoch and step of a line; -1 where it has none."""


def is_object(body: bytes) -> bool:
    """Tell whether a line is a printed object of Python's, with settings in it, or a command or test with arguments.

    Example:
        >>> is_object(b"Namespace(lr=1e-4, kl=0.1)"), is_object(b"step 3 kl=0.1 (took=2)")
        (True, False)
    """
    return _CALL.search(body) is not None or _OTHER_PROGRAM.search(body) is not None


def evidence_of(found: Sequence[NamedNumber], *, has_place: bool, body: bytes = b"") -> frozenset[str]:
    """Return the known metrics of a line that are those of a trainer, should they recur; none where they are nobody's.

    Two have to be known, and not only a learning rate; one is enough if only trainers have it. A line without a step
    needs both. A loss in percent is one of packets.

    Args:
        found: its numbers, without the step.
        has_place: whether it has a step, an epoch or an episode, or stands below one.
        body: the whole line.
    """
    names: set[str] = set()
    for one in found:
        if _is_value(one):
            key = one.key.decode("utf-8", "replace")
            names |= {plain(key)} & ONLY_TRAINERS
            names |= {known_name(key) or ""} - {""}
    return frozenset(names if _tell(names, has_place=has_place, is_others=_is_others(found, body)) else ())


def known_keys(found: Sequence[NamedNumber], body: bytes) -> list[str]:
    """Return the keys of a line that are known metrics, whether or not they show a trainer; none of other programs'.

    Example:
        >>> known_keys([NamedNumber(b"reward", b"0.5"), NamedNumber(b"shard", b"7")], b"step=3 reward=0.5 shard=7")
        ['reward']
    """
    if _is_others(found, body):
        return []
    keys = [one.key.decode("utf-8", "replace") for one in found if _is_value(one)]
    return [key for key in keys if known_name(key) is not None]


def _tell(names: AbstractSet[str], *, has_place: bool, is_others: bool = False) -> bool:
    """Tell whether metrics show a trainer."""
    metrics = names - _KEYS
    several = len(metrics) >= _FEWEST_KNOWN and not metrics <= WEAK
    if not ONLY_TRAINERS.isdisjoint(names) or metrics >= _REWARDED:
        return has_place or several
    return has_place and several and not is_others


def _is_value(one: NamedNumber) -> bool:
    """Tell whether a number can be a metric's: it is one, of no things, and no loss in percent."""
    is_share = one.token.rstrip(b"'\"").endswith(b"%") and b"loss" in one.key.lower()
    return number(one.token) is not None and not is_share and not one.is_of_things


def _is_others(found: Sequence[NamedNumber], body: bytes) -> bool:
    """Tell whether a line is of networks, chains or places on Earth: by a name, two of them, or a rate in bits."""
    words = {word for one in found for word in re.findall(r"[a-z]+", one.key.decode("utf-8", "replace").lower())}
    return (
        not OTHERS.isdisjoint(words)
        or any(words >= together for together in OTHERS_TOGETHER)
        or _NETWORK_RATE.search(body) is not None
    )


@dataclass(slots=True)
class _Seen:
    """How often a metric came in a row with rising steps, and where it was last."""

    count: int
    place: Place | None


class Evidence:
    """Counts the lines in which each known metric of a process came.

    Lines of one run need not have the same keys: some metrics are printed every few steps. Where no step is told, they
    need.

    Attributes:
        num_alike: in how many steps the same metrics came, of those that came most often; three are enough.
    """

    def __init__(self) -> None:
        self.num_alike = 0
        self._seen: dict[tuple[Origin, str, tuple[bytes, ...]], _Seen] = {}
        self._num_lines = 0

    def take(self, found: Sequence[NamedNumber], names: frozenset[str], origin: Origin, place: Place | None) -> None:
        """Take a line with numbers into account.

        Args:
            found: its numbers.
            names: its metrics, if it is evidence, and else none.
            origin: the process that printed it.
            place: where it is, or None where lines are counted.
        """
        self._num_lines += 1
        form = tuple(one.key for one in found) if place is None else ()
        counts = {name: self._count((origin, name, form), place) for name in names}
        while self.num_alike < FEWEST_LINES and _came(self.num_alike + 1, counts, place):
            self.num_alike += 1

    @property
    def enough(self) -> bool:
        """Whether the log is a trainer's."""
        return self.num_alike == FEWEST_LINES

    def settles_for_two(self) -> bool:
        """Tell whether there are no more than two lines with numbers, with the same metrics, at the end of a log."""
        return self._num_lines == FEWEST_LINES - 1 == self.num_alike

    def _count(self, key: tuple[Origin, str, tuple[bytes, ...]], place: Place | None) -> int:
        """Count a metric of a line; returns how often it came in a row."""
        seen = self._seen.get(key)
        if seen is None:
            if len(self._seen) < _MOST_SEEN:
                self._seen[key] = _Seen(1, place)
            return 1
        if place is None or seen.place is None or rises(seen.place, place):
            seen.count += 1
        elif place != seen.place:
            seen.count = 1
        seen.place = place
        return seen.count


def _came(times: int, counts: Mapping[str, int], place: Place | None) -> bool:
    """Tell whether the metrics of a line that came so often show a trainer."""
    often = {name for name, count in counts.items() if count >= times}
    return _tell(often, has_place=place is not None)


def rises(before: Place, after: Place) -> bool:
    """Tell whether a step or its epoch is a later one."""
    return after[1] > before[1] or after[0] > before[0]
