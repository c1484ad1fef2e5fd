"""Rules as a preset and a configuration want them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from orz_monitor.configuration.model import NOTHING_SET, Configuration, Override
from orz_monitor.findings import rank
from orz_monitor.presets import PRESETS
from orz_monitor.rules.base import Rule


def adapted(rules: Sequence[Rule], preset: str, configuration: Configuration = NOTHING_SET) -> tuple[Rule, ...]:
    """Return the rules that apply, with their thresholds: the rule's own < the preset's < the configuration's.

    A rule that the configuration names is kept even where the preset leaves it out: the user wants it.
    """
    kind = PRESETS[preset]
    kept = []
    for rule in rules:
        override = configuration.overrides.get(rule.code)
        fits = preset in rule.presets and rule.code not in kind.off
        if (override is None and not fits) or (override is not None and override.off):
            continue
        by_preset = Override(limits=kind.limits.get(rule.code, {}), worst=kind.worst.get(rule.code))
        kept.append(overridden(overridden(rule, by_preset), override or Override()))
    return tuple(kept)


def overridden(rule: Rule, override: Override) -> Rule:
    """Return a rule with what is set for it."""
    limits = replace(rule.limits, **override.limits) if override.limits else rule.limits
    return replace(
        rule,
        limits=limits,
        min_points=rule.min_points if override.min_points is None else override.min_points,
        worst=rule.worst if override.worst is None else max(override.worst, rule.worst, key=rank),
    )
