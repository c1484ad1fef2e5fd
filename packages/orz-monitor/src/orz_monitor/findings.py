"""A finding: what was seen, the evidence, and what to try."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from orz_cli.findings import Severity


def rank(severity: Severity) -> int:
    """Return 0 for an error, 1 for a warning, 2 for info."""
    return list(Severity).index(severity)


def milder(severity: Severity) -> Severity:
    """Return the next less bad severity."""
    return Severity.WARN if severity is Severity.ERROR else Severity.INFO


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """One metric before and during a finding.

    Attributes:
        metric: its name.
        baseline: the value it is compared with.
        baseline_is: what the baseline is, in a few words.
        observed: the value that was seen.
        observed_is: what the observed value is, in a few words.
    """

    metric: str
    observed: float
    observed_is: str
    baseline: float | None = None
    baseline_is: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cause:
    """A possible cause, how to confirm it, and what to try then."""

    what: str
    confirm: str
    try_: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One episode that a rule found.

    Attributes:
        code: the rule's name.
        severity: how bad it is.
        title: a few words.
        message: one sentence with numbers and steps.
        evidence: the numbers it rests on, with their baselines.
        causes: likely causes, likeliest first.
        caveat: when to ignore it.
        first_step: where the episode begins; None where it has no step.
        last_step: where it ends.
        file: where to look; the records file by default.
        line: the line there; that of `first_step` by default.
    """

    code: str
    severity: Severity
    title: str
    message: str
    causes: tuple[Cause, ...]
    caveat: str = ""
    evidence: tuple[Evidence, ...] = ()
    first_step: int | None = None
    last_step: int | None = None
    file: Path | None = None
    line: int | None = None

    @property
    def remedy(self) -> str:
        """What to try, likeliest first, as one text."""
        return "; ".join(cause.try_ for cause in self.causes)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sighting:
    """An episode that a rule has graded and not yet described: of thousands, only the few that are shown will be.

    Attributes:
        severity: how bad it is.
        describe: makes the finding, given its severity, which the rule may have capped.
    """

    severity: Severity
    describe: Callable[[Severity], Finding]
