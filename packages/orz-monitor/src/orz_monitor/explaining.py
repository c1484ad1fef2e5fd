"""What `orz monitor explain` says: a rule or a metric in a few lines."""

from __future__ import annotations

import difflib
from typing import Final

from orz_cli.errors import UsageError
from orz_monitor.records import METRICS, PHASES, MetricSpec, describe
from orz_monitor.rules import RULES, Rule

_MOST: Final = 8
"""Metrics explained of those that a word is part of."""


def explained(asked: str) -> str:
    """Explain a rule, a metric or a phase; a word such as `kl` explains the metrics that have it in their names.

    Raises:
        UsageError: nothing has such a name; the nearest names are given.
    """
    word = asked.strip().lower()
    rule = next((rule for rule in RULES if rule.code == word), None)
    if rule is not None:
        return _rule(rule)
    exact = describe(asked.strip())
    if exact is not None:
        return _metric(exact)
    if word in PHASES:
        return f"seconds/{word}\n  {PHASES[word]}; seconds of each step"
    parts = [spec for spec in METRICS.values() if word and word in spec.name.replace("/", "_").split("_")]
    if parts:
        more = [spec.name for spec in parts[_MOST:]]
        return "\n\n".join(
            [*(_metric(spec) for spec in parts[:_MOST]), *([f"also: {', '.join(more)}"] if more else [])]
        )
    names = [*(rule.code for rule in RULES), *METRICS, *PHASES]
    near = difflib.get_close_matches(word, names, n=3, cutoff=0.5)
    raise UsageError(
        f"no rule and no metric is called {asked!r}",
        remedy=f"did you mean {', '.join(near)}?" if near else "docs/reference/metrics.md lists all metrics",
    )


def _metric(spec: MetricSpec) -> str:
    """Explain one metric: unit, meaning, how a step's parts become one value, and which rules look at it."""
    lines = [f"{spec.name}  [{spec.unit}]", f"  {spec.meaning}", f"  reduction over a step's parts: {spec.reduction}"]
    rules = [rule.code for rule in RULES if spec.name in (*rule.needs, *rule.needs_any)]
    if rules:
        lines.append(f"  rules that need it: {', '.join(rules)}")
    return "\n".join(lines)


def _rule(rule: Rule) -> str:
    """Explain one rule: what it looks for, and what it needs for that."""
    lines = [f"{rule.code}  [rule]", f"  {rule.title}"]
    if rule.needs:
        lines.append(f"  needs: {', '.join(rule.needs)}")
    if rule.needs_any:
        lines.append(f"  needs one of: {', '.join(rule.needs_any)}")
    if rule.min_points > 1:
        lines.append(f"  from {rule.min_points} values on")
    if rule.absorbs:
        lines.append(f"  says more than, on the same steps: {', '.join(sorted(rule.absorbs))}")
    return "\n".join(lines)
