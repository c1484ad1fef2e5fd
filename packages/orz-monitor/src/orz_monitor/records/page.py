"""The reference page of metrics and phases, `docs/reference/metrics.md`, made from the registry."""

from __future__ import annotations

from typing import Final

from orz_monitor.records.registry import METRICS, PHASES

_INTRODUCTION: Final = """\
# Metrics

<!-- Made from orz_monitor.records.registry by orz_monitor.records.page; edit the registry, not this page. -->

Every name in the `metrics` of a step record ([records.md](records.md)). *Reduction* is how the values of a
step's parts (micro-batches, ranks) become the step's value; a mean is taken over the things counted, never
over means. A name with `<part>` stands for many.
"""

_PLACES: Final = {
    "metrics": "",
    "events": " Found in events.",
    "derived": " Worked out by readers, since it depends on the clock.",
}


def metrics_page() -> str:
    """Return the page as Markdown."""
    lines = [_INTRODUCTION, "| name | unit | reduction | meaning |", "|---|---|---|---|"]
    lines += [
        f"| `{spec.name}` | {spec.unit} | {spec.reduction} | {spec.meaning}{_PLACES[spec.source]} |"
        for spec in METRICS.values()
    ]
    lines += [
        "",
        "## Phases",
        "",
        "The keys of `seconds`: wall-clock seconds of the step.",
        "",
        "| phase | what it is |",
        "|---|---|",
    ]
    lines += [f"| `{phase}` | {meaning} |" for phase, meaning in PHASES.items()]
    return "\n".join(lines) + "\n"
