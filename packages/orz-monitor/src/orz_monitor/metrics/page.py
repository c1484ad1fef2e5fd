"""The page of explained metrics, `docs/reference/metrics-explained.md`, made from the catalogue."""

from __future__ import annotations

from orz_monitor.metrics.catalogue import FACTS
from orz_monitor.metrics.explain import FRAMEWORKS, rules_about
from orz_monitor.metrics.model import Facts
from orz_monitor.metrics.names import NAMES
from orz_monitor.metrics.peers import PEERS, spec_of

_HEAD = """\
# Metrics explained

<!-- Made from orz_monitor.metrics by orz_monitor.metrics.page; edit that, not this page. -->

What the metrics of reinforcement learning mean, how they are reckoned, what is usual, and which trainer calls it what.
Names, units and reductions of what orz-train writes are in [metrics.md](metrics.md); the rules in [rules.md](rules.md).
"""


def explained_page() -> str:
    """Return the page."""
    parts = [_HEAD, *(_section(facts) for facts in FACTS.values()), _peers()]
    return "\n".join(parts).rstrip("\n") + "\n"


def _section(facts: Facts) -> str:
    """Return the section of one metric."""
    spec = spec_of(facts.name)
    unit = f" ({spec.unit})" if spec is not None and spec.unit != "1" else ""
    lines = [f"## {facts.name}{unit}\n", facts.definition]
    if facts.estimator:
        lines += ["", facts.estimator]
    if facts.ranges:
        lines += [
            "",
            "Usual: " + "; ".join(f"{FRAMEWORKS.get(key, key)} {text}" for key, text in facts.ranges.items()) + ".",
        ]
    names = NAMES.get(facts.name, {})
    if names:
        called = (f"{FRAMEWORKS[key]} {', '.join(f'`{raw}`' for raw in raws)}" for key, raws in names.items())
        lines += ["", "Called: " + "; ".join(called) + "."]
    lines += ["", *(f"- {pitfall}" for pitfall in facts.pitfalls)] if facts.pitfalls else []
    rules = rules_about(facts.name)
    if rules:
        lines += ["", "Rules: " + ", ".join(f"[`{code}`](rules.md#{code})" for code in rules) + "."]
    return "\n".join(lines) + "\n"


def _peers() -> str:
    """Return the table of metrics that only others log."""
    lines = ["## What only other trainers and engines log\n", "| name | unit | meaning |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| `{s.name}` | {s.unit} | {s.meaning} |" for s in PEERS.values())]) + "\n"
