"""A metric explained, as text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import Final

from orz_monitor.metrics.catalogue import facts_of, look_up
from orz_monitor.metrics.names import NAMES
from orz_monitor.metrics.peers import PEERS, spec_of
from orz_monitor.rules import RULES

FRAMEWORKS: Final = {
    "orz-train": "orz-train",
    "orz": "ORZ",
    "openrlhf": "OpenRLHF",
    "verl": "verl",
    "trl": "TRL",
    "nemo-rl": "NeMo-RL",
    "skyrl": "SkyRL",
    "slime": "slime",
    "prime-rl": "prime-rl",
    "areal": "AReaL",
    "vllm": "vLLM",
    "sglang": "SGLang",
    "any": "anywhere",
}
"""Trainers and engines as their authors write them."""


def explain(asked: str, *, width: int = 100, also: Sequence[str] = ()) -> str:
    """Explain the metrics that a word means: definition, unit, estimator, usual ranges, names, pitfalls, rules.

    Args:
        asked: a canonical name, a trainer's name, or a word such as `kl`.
        width: columns to fill.
        also: what else the word may mean that is no metric.

    Raises:
        UsageError: no metric is meant.
    """
    first, *others = (*look_up(asked), *also)
    text = explain_metric(first, width=width)
    return text + also_means(asked, others, width)


def also_means(asked: str, others: Sequence[str], width: int) -> str:
    """Return what follows an explanation of a word that may mean something else; empty where it may not."""
    if not others:
        return ""
    said = f"{asked!r} may also mean: {', '.join(others)}"
    return "\n\n" + textwrap.fill(said, max(width, 40), break_long_words=False)


def explain_metric(name: str, *, width: int = 100) -> str:
    """Explain one canonical metric."""
    facts, spec = facts_of(name), spec_of(name)
    unit = "" if spec is None or spec.unit == "1" else f"  [{spec.unit}]"
    parts = [f"{facts.name}{unit}", *_wrapped(facts.definition, width)]
    if facts.estimator:
        parts += ["", "How it is reckoned", *_wrapped(facts.estimator, width)]
    if facts.ranges:
        parts += ["", "What is usual", *_listed(_named(facts.ranges.items()), width)]
    names: dict[str, tuple[str, ...]] = {"orz-train": (facts.name,)} if facts.name not in PEERS else {}
    names |= NAMES.get(facts.name, {})
    if names:
        called = ((framework, ", ".join(raw)) for framework, raw in names.items())
        parts += ["", "Who calls it what", *_listed(_named(called), width)]
    if facts.pitfalls:
        parts += ["", "What it is mistaken for", *_listed(facts.pitfalls, width)]
    watched = rules_about(facts.name)
    if watched:
        parts += ["", "Rules that watch it", *_wrapped(", ".join(watched), width)]
    return "\n".join(parts)


def rules_about(name: str) -> tuple[str, ...]:
    """Return the rules that need a metric."""
    return tuple(rule.code for rule in RULES if name in (*rule.needs, *rule.needs_any))


def _named(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """Write a trainer or kind of run before each text."""
    return [f"{FRAMEWORKS.get(key, key)}: {text}" for key, text in pairs]


def _wrapped(text: str, width: int) -> list[str]:
    """Fill a paragraph, indented by two."""
    return textwrap.wrap(text, max(width, 40), initial_indent="  ", subsequent_indent="  ", break_long_words=False)


def _listed(items: Iterable[str], width: int) -> list[str]:
    """Fill the items of a list."""
    return [
        line
        for item in items
        for line in textwrap.wrap(
            item, max(width, 40), initial_indent="  - ", subsequent_indent="    ", break_long_words=False
        )
    ]
