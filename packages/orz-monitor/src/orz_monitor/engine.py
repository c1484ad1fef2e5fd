"""Apply the rules to a run and reach a verdict."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace

from orz_cli.findings import Severity, Status
from orz_monitor.configuration import NOTHING_SET, Configuration, Ignore, adapted
from orz_monitor.findings import Finding, rank
from orz_monitor.frameworks import HOW_TO_GIVE, framework_of, translated
from orz_monitor.metrics.logging import how_to_log
from orz_monitor.rules import RULES, Rule
from orz_monitor.rules.stall import RULE as STALL_RULE
from orz_monitor.run import Run


@dataclass(frozen=True, kw_only=True, slots=True)
class NotEvaluated:
    """A rule that could not judge, why, what would let it, and whether an option of the user's brought it."""

    code: str
    title: str
    reason: str
    remedy: str = ""
    is_asked_for: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Ignored:
    """A finding that does not count, because the configuration says so."""

    finding: Finding
    reason: str
    until: dt.date | None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Verdict:
    """What the rules say about one run.

    Attributes:
        run: the run.
        findings: worst first.
        passed: rules that looked and found nothing.
        not_evaluated: rules that could not judge.
        ignored: findings that do not count, with why.
        rules: the rules that apply to such a run, with their thresholds.
        configuration: what the user has set.
    """

    run: Run
    findings: tuple[Finding, ...]
    passed: tuple[Rule, ...]
    not_evaluated: tuple[NotEvaluated, ...]
    ignored: tuple[Ignored, ...] = ()
    rules: tuple[Rule, ...] = ()
    configuration: Configuration = NOTHING_SET

    @property
    def evaluated_metrics(self) -> bool:
        """Whether the run logged any registered metric of training; without one, silence is no pass."""
        return bool(self.run.coverage.of_training)

    @property
    def undecided(self) -> tuple[str, str]:
        """Why silence is no pass, and what to give instead; empty where it is one.

        Nothing says how training goes, or a rule that the user asked for could not judge.
        """
        if self.evaluated_metrics:
            asked = next((item for item in self.not_evaluated if item.is_asked_for), None)
            if asked is None:
                return "", ""
            return f"can't tell whether {asked.title}: {asked.reason}", asked.remedy or "judge it without that option"
        if self.run.coverage.recognised:
            found = "only lines of an inference engine, which say nothing of training"
            return found, "give the trainer's own log, in a folder with this one to have both judged"
        return "no metric recognised yet", "wait for its first step, or give the log that its trainer prints metrics to"

    @property
    def fell_silent(self) -> bool:
        """Whether the run neither ended nor goes on, by the clock; also where the user ignores that."""
        return any(
            found.code == STALL_RULE.code for found in (*self.findings, *(item.finding for item in self.ignored))
        )

    def status(self, fail_on: Severity = Severity.ERROR) -> Status:
        """Return the outcome, with findings from severity `fail_on` on as failures."""
        if any(rank(finding.severity) <= rank(fail_on) for finding in self.findings):
            return Status.FAILED
        return Status.INCONCLUSIVE if any(self.undecided) else Status.OK

    def count(self, severity: Severity) -> int:
        """Return how many findings have this severity."""
        return sum(finding.severity is severity for finding in self.findings)


def judge(run: Run, rules: Sequence[Rule] = RULES, configuration: Configuration = NOTHING_SET) -> Verdict:
    """Apply every rule that fits the run.

    Args:
        run: the run.
        rules: in the order in which findings of equal severity are shown.
        configuration: thresholds and ignored findings; a preset named there overrides the one recognised.
    """
    if configuration.preset:
        run = replace(run, chosen_preset=configuration.preset)
    applied = adapted(rules, run.preset, configuration)
    found: list[Finding] = []
    passed: list[Rule] = []
    not_evaluated: list[NotEvaluated] = []
    for rule in applied:
        reason = rule.unmet(run)
        if reason:
            not_evaluated.append(_not_evaluated(rule, reason, run))
            continue
        findings = rule.judge(run)
        found += findings
        if not findings:
            passed.append(rule)
    kept = [_placed(finding, run) for finding in found if not _absorbed(finding, found, applied)]
    order = {rule.code: index for index, rule in enumerate(applied)}
    kept.sort(key=lambda finding: (rank(finding.severity), order[finding.code], finding.first_step or 0))
    counted, ignored = _split(kept, configuration.ignores, _today(run))
    return Verdict(
        run=run,
        findings=counted,
        passed=tuple(passed),
        not_evaluated=tuple(not_evaluated),
        ignored=ignored,
        rules=applied,
        configuration=configuration,
    )


def _not_evaluated(rule: Rule, reason: str, run: Run) -> NotEvaluated:
    """Say why a rule could not judge, and how to log what it misses, or where its setting is read from."""
    missing = [name for name in (*rule.needs, *rule.needs_any) if name not in run.metrics]
    remedy = next(filter(None, (how_to_log(name, framework_of(run), run.hints) for name in missing)), "")
    if rule.lacks(run) or rule.hinders(run):
        remedy = rule.remedy if len(run.steps) else ""
    if rule.setting and not rule.unlogged(run):
        remedy = HOW_TO_GIVE
    return NotEvaluated(code=rule.code, title=rule.title, reason=reason, remedy=remedy, is_asked_for=rule.is_asked_for)


def _placed(finding: Finding, run: Run) -> Finding:
    """Point a finding without a place to what its first evidence was read from, and name the framework's settings."""
    if not finding.file:
        file, line = run.place_of(finding.first_step, finding.evidence[0].metric if finding.evidence else "")
        finding = replace(finding, file=file, line=line)
    return translated(finding, framework_of(run))


def _split(
    findings: list[Finding], ignores: Sequence[Ignore], today: dt.date
) -> tuple[tuple[Finding, ...], tuple[Ignored, ...]]:
    """Separate the findings that count from those that the configuration ignores."""
    counted, ignored = [], []
    for finding in findings:
        match = next((item for item in ignores if item.covers(finding.code, finding.first_step, today)), None)
        if match is None:
            counted.append(finding)
        else:
            ignored.append(Ignored(finding=finding, reason=match.reason, until=match.until))
    return tuple(counted), tuple(ignored)


def _today(run: Run) -> dt.date:
    """Return the day of judging."""
    try:
        return dt.datetime.fromtimestamp(run.now, tz=dt.UTC).date()
    except (ValueError, OverflowError, OSError):  # a clock beyond the calendar
        return dt.date.max


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
