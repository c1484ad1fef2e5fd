"""Whose names a run's metrics have: a trainer's, told by its lines, or by the keys where nobody's lines tell it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from orz_monitor.canonical import is_phase
from orz_monitor.dialects import KNOWN, Dialect, Meaning
from orz_monitor.dialects.generic.keys import meaning_of
from orz_monitor.frameworks import OURS
from orz_monitor.log import Log
from orz_monitor.records import describe

GENERIC_NAME: Final = "generic"
"""The trainer of a run of which nothing tells whose it is."""
_BEHIND_ALL: Final = 100
"""Ranks after those that a trainer's own keys have."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Names:
    """Who wrote a run, and what its keys mean.

    Attributes:
        reader: the dialect that most lines were read by; that of `trainer` in a store.
        trainer: the trainer whose names the keys are.
        meaning: what a raw key that a dialect read means, or None; given the dialect and the key.
    """

    reader: str
    trainer: str
    meaning: Callable[[str, str], Meaning | None]


def names_of(log: Log, known: Mapping[str, Dialect]) -> Names:
    """Tell who wrote what was read, and whose names its keys are.

    Lines of the fallback's are nobody's, and so are those of a trainer of whose keys none is in them, as where another
    one prints `Step 3: {...}`, too: their keys tell whose they are, by the same rule as in a store.
    """

    def as_read(dialect: str, key: str) -> Meaning | None:
        return known[dialect].meaning(key) if dialect in known else None

    votes = {name: count for name, count in log.votes.items() if name in known and known[name].is_trainer}
    if not votes:
        trainer = _trainer_of_keys({column.key for column in log.columns}, known)
        return Names(reader=trainer, trainer=trainer, meaning=as_read)
    reader = max(votes, key=lambda name: votes[name])
    trainer = _owner(reader, {key for dialect, key in log.precisions if dialect == reader}, known)
    if trainer == reader:
        return Names(reader=reader, trainer=reader, meaning=as_read)

    def borrowed(dialect: str, key: str) -> Meaning | None:
        own = as_read(dialect, key)
        if dialect != reader or (trainer not in known and trainer != OURS):
            return own
        if trainer == OURS and (describe(key) is not None or is_phase(key)):
            return None  # a canonical name already
        theirs = known[trainer].meaning(key) if trainer in known else None
        return theirs or (replace(own, rank=own.rank + _BEHIND_ALL) if own is not None else None)

    return Names(reader=reader, trainer=trainer, meaning=borrowed)


def _owner(reader: str, keys: set[str], known: Mapping[str, Dialect]) -> str:
    """Return whose the keys are that a dialect read: its own, unless it knows none of them; a user's always are."""
    if reader == GENERIC_NAME:
        return _trainer_of_keys(keys, known, fewest_words=2)
    if reader not in KNOWN or not keys or any(known[reader].meaning(key) is not None for key in keys):
        return reader
    trainer = _trainer_of_keys(keys, known)
    return trainer if trainer != GENERIC_NAME else reader


def _trainer_of_keys(keys: set[str], known: Mapping[str, Dialect], *, fewest_words: int = 1) -> str:
    """Return the trainer that knows most of these keys, and at least one that is no plain word as `loss` or `lr`.

    Of two that know as many, as TRL and ms-swift, which is built on it, it is the one that the other is built on.

    Args:
        keys: raw keys.
        known: dialects by name.
        fewest_words: how many of those keys it has to know where none of them has a slash. Anybody may print `values`
            on a line of his own.
    """
    trainers = {
        name: dialect
        for name, dialect in known.items()
        if dialect.is_trainer and name not in {GENERIC_NAME, OURS}  # ours is told by canonical names
    }
    fits = {name: {key for key in keys if dialect.meaning(key) is not None} for name, dialect in trainers.items()}
    ours = sum(describe(key) is not None or is_phase(key) for key in keys)
    if ours * 2 > len(keys) or ours > max(map(len, fits.values()), default=0):
        return OURS  # or what `export` wrote, with keys of a trainer beside ours
    own = {name: [key for key in found if meaning_of(key) is None] for name, found in fits.items()}
    telling = [name for name, words in own.items() if len(words) >= fewest_words or any("/" in key for key in words)]
    return max(telling, key=lambda name: (len(fits[name]), -len(type(known[name]).mro())), default=GENERIC_NAME)
