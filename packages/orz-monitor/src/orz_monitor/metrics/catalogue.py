"""All that is known about metrics, and how to find it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from orz_cli.errors import UsageError
from orz_monitor.metrics.facts_learning import LEARNING
from orz_monitor.metrics.facts_rollouts import ROLLOUTS
from orz_monitor.metrics.model import Facts
from orz_monitor.metrics.names import NAMES
from orz_monitor.metrics.peers import PEERS, spec_of
from orz_monitor.records import METRICS

FACTS: Final[Mapping[str, Facts]] = {facts.name: facts for facts in (*LEARNING, *ROLLOUTS)}
"""What is known about a metric, by canonical name."""


def facts_of(name: str) -> Facts:
    """Return what is known about a canonical metric: at least the sentence of its registry."""
    known = FACTS.get(name)
    if known is not None:
        return known
    spec = spec_of(name)
    if spec is None:
        raise KeyError(name)
    return FACTS.get(spec.name) or Facts(name=spec.name, definition=spec.meaning)


def look_up(asked: str) -> tuple[str, ...]:
    """Return the canonical metrics that a word may mean, the likeliest first.

    A word is a canonical name, the last part of one, a trainer's name for it, or what people call it.

    Raises:
        UsageError: none is meant; the nearest names are told.

    Example:
        >>> look_up("kl")[0]
        'policy/kl_ref'
    """
    word = asked.strip().lower()
    spec = spec_of(asked.strip()) if word else None
    if spec is not None:
        return (spec.name,)
    found = dict.fromkeys(name for known, name in _words() if known == word)
    if found:
        return tuple(found)
    near = nearest(word)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise UsageError(
        f"{asked[:80]!r}: no metric of that name is known",
        remedy=f"{hint}docs/reference/metrics-explained.md lists them all",
    )


def means_a_metric(word: str) -> bool:
    """Tell whether a word, in lower case, means a metric."""
    return any(known == word for known, _ in _words())


def nearest(word: str, others: Iterable[str] = ()) -> tuple[str, ...]:
    """Return up to three known words that are spelled much like another, the nearest first.

    Args:
        word: in lower case.
        others: words that are known besides those for metrics.
    """
    known = dict.fromkeys((*(known for known, _ in _words()), *others))
    return tuple(difflib.get_close_matches(word, known, n=3, cutoff=0.6))


def _words() -> Iterator[tuple[str, str]]:
    """Yield every word that means a metric, and the metric; what is likelier first."""
    for facts in FACTS.values():
        for word in facts.asked:
            yield word.lower(), facts.name
    for name in (*METRICS, *PEERS):
        yield name.lower(), name
        yield name.rsplit("/", 1)[-1], name
    for name, by_framework in NAMES.items():
        for raw in (raw for names in by_framework.values() for raw in names):
            yield raw.lower(), name
            yield raw.rsplit("/", 1)[-1].lower(), name
