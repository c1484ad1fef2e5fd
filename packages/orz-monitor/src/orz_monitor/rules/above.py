"""Rules of one metric that should stay below a level."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from orz_cli.findings import Severity
from orz_monitor.findings import Cause, Finding, milder
from orz_monitor.rules.levels import Exceedance, before_and_during, exceedances, grade, recovered
from orz_monitor.run import Run
from orz_monitor.series import Series


class Levels(Protocol):
    """Thresholds of such a rule: a level, a worse one, and how long it must last."""

    @property
    def warn(self) -> float:
        """Above, it is a warning."""

    @property
    def error(self) -> float:
        """Above, it is an error."""

    @property
    def hits(self) -> int:
        """Values above."""

    @property
    def window(self) -> int:
        """Among so many."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Text:
    """What the findings of such a rule say.

    Attributes:
        code: the rule.
        title: a few words.
        message: makes the sentence with the numbers of a span.
        causes: likely causes, likeliest first.
        caveat: when to ignore it.
    """

    code: str
    title: str
    message: Callable[[Exceedance], str]
    causes: tuple[Cause, ...]
    caveat: str = ""


def above(
    run: Run,
    series: Series,
    limits: Levels,
    text: Text,
    *,
    whatever_the_reward: bool = False,
    logged: Series | None = None,
) -> list[Finding]:
    """Find the spans in which a series stays above a level.

    Unless told otherwise a span that is a warning counts for less while the reward rises.

    Args:
        run: the run.
        series: larger is worse.
        limits: the level, and how long it must last.
        text: what findings say.
        whatever_the_reward: a warning counts as much while the reward rises, too.
        logged: the metric as it was logged, which the evidence shows, where `series` was reckoned from it.
    """
    shown = series if logged is None else logged
    findings = []
    for span in exceedances(series, warn=limits.warn, error=limits.error, hits=limits.hits, window=limits.window):
        severity: Severity | None
        if whatever_the_reward:
            severity = milder(span.severity) if recovered(run, span.last_step) else span.severity
        else:
            severity, _ = grade(run, span)
        if severity is None:
            continue
        findings.append(described(shown, span, severity, text))
    return findings


def described(series: Series, span: Exceedance, severity: Severity, text: Text) -> Finding:
    """Make the finding of a span."""
    return Finding(
        code=text.code,
        severity=severity,
        title=text.title,
        message=text.message(span),
        evidence=(before_and_during(series, span.first_step, span.last_step),),
        causes=text.causes,
        caveat=text.caveat,
        first_step=span.first_step,
        last_step=span.last_step,
    )


def during(span: Exceedance) -> str:
    """Say in which steps a span was."""
    same = span.first_step == span.last_step
    return f"in step {span.first_step}" if same else f"in the steps {span.first_step} to {span.last_step}"
