"""A finding: what was seen, the evidence, and what to try."""

from __future__ import annotations

import math
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


def shown(value: float) -> str:
    """Write a number for people: three significant digits, no needless exponent."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("-inf" if value < 0 else "inf")
    if value == 0:
        return "0"
    if 1e-3 <= abs(value) < 1e4:  # noqa: PLR2004 - where plain digits read best
        digits = max(0, 2 - math.floor(math.log10(abs(value))))
        text = f"{value:.{digits}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    if 1e4 <= abs(value) < 1e15:  # noqa: PLR2004 - thousands, millions, ...
        power = int(math.log10(abs(value))) // 3
        return f"{value / 1000**power:.3g}{'kMGT'[power - 1]}"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
