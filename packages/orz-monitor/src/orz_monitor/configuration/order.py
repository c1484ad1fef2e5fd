"""Thresholds of one rule that mean something in one order only, such as a warning's and an error's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from orz_monitor.rules.base import Rule


def misordered(rule: Rule, given: Mapping[str, float], usual: Mapping[str, float]) -> Iterator[tuple[str, float, str]]:
    """Yield each threshold that a user has set beyond another one: its name, its value, and what was expected.

    Args:
        rule: says which of its thresholds may not be below which.
        given: what the user has set.
        usual: all thresholds of the rule, as they are without that.
    """
    values = {**usual, **given}
    for upper, lower in rule.orders.items():
        if values[upper] >= values[lower] or not {upper, lower} & given.keys():
            continue
        name, bound, other = (upper, "at least", lower) if upper in given else (lower, "at most", upper)
        beside = "" if other in given else ", which it is unless you set that, too"
        yield name, values[name], f"{bound} {other} = {values[other]:.12g}{beside}"
