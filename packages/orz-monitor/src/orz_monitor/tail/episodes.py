"""Which findings are news."""

from __future__ import annotations

from orz_monitor.engine import Verdict
from orz_monitor.findings import Finding, rank


class Episodes:
    """Tells new findings from those that were told before: an episode that goes on is told once, unless it worsens.

    An episode that stood at the newest step, and stands at the newest step now, has gone on with the run: a log whose
    clock is wrong is silent too long after each of its steps.
    """

    def __init__(self) -> None:
        self._told: list[Finding] = []
        self._at_end: list[Finding] = []

    def new(self, verdict: Verdict) -> list[Finding]:
        """Return the findings that were not told yet."""
        findings = verdict.findings
        newest = int(verdict.run.steps[-1]) if len(verdict.run.steps) else None
        at_end = [finding for finding in findings if finding.last_step == newest]
        fresh = [
            finding
            for finding in findings
            if not any(_same(finding, told) for told in self._told)
            and not (finding in at_end and any(_is_no_worse(finding, told) for told in self._at_end))
        ]
        # What is kept of an episode is its newest form: it may have grown since. Without steps it ends when it is gone.
        old = [told for told in self._told if told.first_step is not None]
        old = [told for told in old if not any(_touch(told, finding) for finding in findings)]
        self._told = [*old, *findings]
        self._at_end = at_end
        return fresh


def _same(finding: Finding, told: Finding) -> bool:
    """Tell whether an episode was told, at this severity or worse."""
    return _touch(finding, told) and _is_no_worse(finding, told)


def _is_no_worse(finding: Finding, told: Finding) -> bool:
    """Tell whether a finding is of the same rule as one that was told, and no more severe."""
    return finding.code == told.code and rank(told.severity) <= rank(finding.severity)


def _touch(one: Finding, other: Finding) -> bool:
    """Tell whether two findings are of one episode: the same rule on steps that overlap, or on no steps."""
    if one.code != other.code:
        return False
    if None in {one.first_step, one.last_step, other.first_step, other.last_step}:
        return True
    return (one.first_step or 0) <= (other.last_step or 0) and (other.first_step or 0) <= (one.last_step or 0)
