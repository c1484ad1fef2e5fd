"""Apply the rules to a run and reach a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from orz_cli.findings import Severity, Status
from orz_monitor.findings import Finding, rank
from orz_monitor.rules import RULES, Rule
from orz_monitor.run import Run


@dataclass(frozen=True, kw_only=True, slots=True)
class NotEvaluated:
    """A rule that could not judge, and why."""

    code: str
    title: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Verdict:
    """What the rules say about one run.

    Attributes:
        run: the run.
        findings: worst first.
        passed: rules that looked and found nothing.
        not_evaluated: rules that could not judge.
    """

    run: Run
    findings: tuple[Finding, ...]
    passed: tuple[Rule, ...]
    not_evaluated: tuple[NotEvaluated, ...]

    @property
    def evaluated_metrics(self) -> bool:
        """Whether the run logged any registered metric; without one, silence is no pass."""
        return bool(self.run.coverage.recognised)

    def status(self, fail_on: Severity = Severity.ERROR) -> Status:
        """Return the outcome, with findings from severity `fail_on` on as failures."""
        if any(rank(finding.severity) <= rank(fail_on) for finding in self.findings):
            return Status.FAILED
        return Status.OK if self.evaluated_metrics else Status.INCONCLUSIVE

    def count(self, severity: Severity) -> int:
        """Return how many findings have this severity."""
        return sum(finding.severity is severity for finding in self.findings)


def judge(run: Run, rules: Sequence[Rule] = RULES) -> Verdict:
    """Apply every rule that fits the run."""
    found: list[Finding] = []
    passed: list[Rule] = []
    not_evaluated: list[NotEvaluated] = []
    for rule in rules:
        if run.preset not in rule.presets:
            continue
        reason = rule.unmet(run)
        if reason:
            not_evaluated.append(NotEvaluated(code=rule.code, title=rule.title, reason=reason))
            continue
        findings = rule.check(run)
        found += findings
        if not findings:
            passed.append(rule)
    kept = [_placed(finding, run) for finding in found if not _absorbed(finding, found, rules)]
    order = {rule.code: index for index, rule in enumerate(rules)}
    kept.sort(key=lambda finding: (rank(finding.severity), order[finding.code], finding.first_step or 0))
    return Verdict(run=run, findings=tuple(kept), passed=tuple(passed), not_evaluated=tuple(not_evaluated))


def _placed(finding: Finding, run: Run) -> Finding:
    """Point a finding that names no place to the record of its first step."""
    return finding if finding.file else replace(finding, file=run.path, line=run.line_of(finding.first_step))


def _absorbed(finding: Finding, found: list[Finding], rules: Sequence[Rule]) -> bool:
    """Tell whether another finding on the same steps, at least as severe, says the same."""
    absorbers = {rule.code for rule in rules if finding.code in rule.absorbs}
    return any(
        other.code in absorbers and rank(other.severity) <= rank(finding.severity) and _overlap(finding, other)
        for other in found
    )


def _overlap(one: Finding, other: Finding) -> bool:
    """Tell whether two findings share a step; without steps they concern the whole run."""
    if None in {one.first_step, one.last_step, other.first_step, other.last_step}:
        return True
    return int(one.first_step or 0) <= int(other.last_step or 0) and int(other.first_step or 0) <= int(
        one.last_step or 0
    )
