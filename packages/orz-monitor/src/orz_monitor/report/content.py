"""What a report says, before it has a form."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from orz_cli.findings import Severity, Status
from orz_monitor.covered import spent as spent_in
from orz_monitor.engine import Verdict
from orz_monitor.formats.unknown_trainer import is_little
from orz_monitor.metrics.peers import PEERS, spec_of
from orz_monitor.records import METRICS, PHASES, describe
from orz_monitor.report.excerpts import Excerpt, excerpts_of
from orz_monitor.report.facts import Facts, gather_facts
from orz_monitor.run import Run, State
from orz_monitor.series import Series
from orz_monitor.stats import ends

_ROUNDING: Final = 1e-12


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """A metric in numbers: what it begins and ends with, and its extremes; NaN where it has no value."""

    name: str
    unit: str
    meaning: str
    first: float
    last: float
    lowest: float
    highest: float
    num_steps: int
    num_nonfinite: int

    @property
    def constant(self) -> bool:
        """Whether every value is the same, but for how a sum is rounded."""
        return math.isclose(self.lowest, self.highest, rel_tol=_ROUNDING) and not self.num_nonfinite


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Content:
    """All that a report shows.

    Attributes:
        verdict: the rules' findings, with the run.
        facts: what is known about the run.
        groups: heading to the summaries of its metrics, in the registry's order.
        phases: phase to seconds spent in it over the run; `other` is what no phase covers.
        not_logged: registered metrics without a value.
        excerpts: (file, line) that a finding points to, to the lines around it.
    """

    verdict: Verdict
    facts: Facts
    groups: Mapping[str, tuple[Summary, ...]]
    phases: Mapping[str, float]
    not_logged: tuple[str, ...]
    excerpts: Mapping[tuple[Path, int], Excerpt] = field(default_factory=dict)

    @property
    def run(self) -> Run:
        """The run."""
        return self.verdict.run

    @property
    def accuracies(self) -> list[tuple[str, str]]:
        """Up to two held-out accuracies and their labels."""
        names = [name for name in self.run.metrics if name.startswith("eval/") and name.endswith("/accuracy")]
        return [(name, f"Held-out, {name.split('/')[1]}") for name in names[:2]]

    @property
    def verdict_words(self) -> tuple[str, str]:
        """The verdict in a word, and the severity class it is drawn in."""
        return verdict_words(self.verdict)


_HEADINGS = {
    "eval": "Reward and evaluation",
    "reward": "Reward and evaluation",
    "return": "Reward and evaluation",
    "advantage": "Reward and evaluation",
    "policy": "Policy",
    "critic": "Critic",
    "rollout": "Rollouts",
    "mismatch": "Sampler against trainer",
    "staleness": "Sampler against trainer",
    "correction": "Sampler against trainer",
    "data": "Cost and data",
    "tokens": "Cost and data",
    "sync": "Cost and data",
    "memory": "Cost and data",
    "engine": "Cost and data",
    "balance": "Cost and data",
    "idle": "Cost and data",
}
_ORDER = (
    "Reward and evaluation",
    "Policy",
    "Critic",
    "Rollouts",
    "Sampler against trainer",
    "Cost and data",
    "Not in the registry",
)


_HOW_FAR = {
    State.FINISHED: "",
    State.UNFINISHED: " so far",
    State.INTERRUPTED: " until it was interrupted",
    State.FAILED: " until it failed",
}
"""How far a verdict goes, by where a run is in its life; a failure may be one that the user's settings ignore."""


def verdict_words(verdict: Verdict) -> tuple[str, str]:
    """Return the verdict in a few words, which only of a finished run are about all of it, and its severity class."""
    if verdict.count(Severity.ERROR):
        return "Unhealthy", "error"
    if verdict.status() is Status.INCONCLUSIVE:
        return "Could not decide", "warn"
    if verdict.count(Severity.WARN):
        return "Worth a look", "warn"
    how_far = " until it fell silent" if verdict.fell_silent else _HOW_FAR[verdict.run.state]
    if len(verdict.passed) < len(verdict.not_evaluated) or is_little(verdict.run):
        return f"Nothing found{how_far}", "info"
    return f"Healthy{how_far}", "ok"


def gather(verdict: Verdict) -> Content:
    """Collect what a report shows about a judged run."""
    run = verdict.run
    known = [*METRICS, *PEERS]
    groups: dict[str, list[Summary]] = {heading: [] for heading in _ORDER}
    for name in sorted(run.metrics, key=lambda name: _place(name, known)):
        heading = _HEADINGS.get(name.split("/")[0], _ORDER[-1]) if spec_of(name) else _ORDER[-1]
        groups[heading].append(summarise(run.metrics[name]))
    logged = {spec.name for name in run.metrics if (spec := describe(name)) is not None}
    return Content(
        verdict=verdict,
        facts=gather_facts(run),
        groups={heading: tuple(items) for heading, items in groups.items() if items},
        phases=_phases(run),
        not_logged=tuple(
            spec.name
            for spec in METRICS.values()
            if spec.source == "metrics" and spec.name not in logged and not _needless(spec.name, run)
        ),
        excerpts=excerpts_of(verdict.findings),
    )


def summarise(series: Series) -> Summary:
    """Put a series into numbers."""
    spec = spec_of(series.name)
    values = series.finite().values
    empty = not len(values)
    first, last = (float("nan"), float("nan")) if empty else ends(values)
    return Summary(
        name=series.name,
        unit=spec.unit if spec else "",
        meaning=spec.meaning if spec else "",
        first=first,
        last=last,
        lowest=float("nan") if empty else float(values.min()),
        highest=float("nan") if empty else float(values.max()),
        num_steps=len(series),
        num_nonfinite=len(series) - len(values),
    )


def _place(name: str, known: list[str]) -> tuple[int, str]:
    """Return the sort key of a metric: the registry's order, then the alphabet."""
    spec = spec_of(name)
    return (known.index(spec.name) if spec and spec.name in known else len(known), name)


def _needless(name: str, run: Run) -> bool:
    """Tell whether a metric is not expected of this run: no critic, or a name of the user's."""
    return (not run.has_critic and name.startswith("critic/")) or "<" in name


def _phases(run: Run) -> dict[str, float]:
    """Return the seconds spent in each phase, with what the total leaves over."""
    spent = {phase: float(spent_in(run, phase).sum()) for phase in PHASES if phase in run.seconds and phase != "total"}
    total = float(spent_in(run, "total").sum()) if "total" in run.seconds else 0.0
    rest = total - sum(spent.values())
    if total > 0 and rest > 0.005 * total:
        spent["other"] = rest
    return {phase: seconds for phase, seconds in spent.items() if seconds > 0}
