"""Which findings are news."""

from __future__ import annotations

from orz_monitor.findings import Finding, rank


class Episodes:
    """Tells new findings from those that were told before: an episode that goes on is told once, unless it worsens."""

    def __init__(self) -> None:
        self._told: list[Finding] = []

    def new(self, findings: tuple[Finding, ...]) -> list[Finding]:
        """Return the findings that were not told yet."""
        fresh = [finding for finding in findings if not any(_same(finding, told) for told in self._told)]
        # What is kept of an episode is its newest form: it may have grown since.
        old = [told for told in self._told if not any(_touch(told, finding) for finding in findings)]
        self._told = [*old, *findings]
        return fresh


def _same(finding: Finding, told: Finding) -> bool:
    """Tell whether an episode was told, at this severity or worse."""
    return _touch(finding, told) and rank(told.severity) <= rank(finding.severity)


def _touch(one: Finding, other: Finding) -> bool:
    """Tell whether two findings are of one episode: the same rule on steps that overlap, or on no steps."""
    if one.code != other.code:
        return False
    if None in {one.first_step, one.last_step, other.first_step, other.last_step}:
        return True
    return (one.first_step or 0) <= (other.last_step or 0) and (other.first_step or 0) <= (one.last_step or 0)
