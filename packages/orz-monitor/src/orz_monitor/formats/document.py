"""The JSON document of a check: the shape that all judging commands share, and the source of other formats."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from orz_cli.findings import VERSION, Severity, Status
from orz_monitor.engine import NotEvaluated, Verdict
from orz_monitor.errors import UnreadableRunError
from orz_monitor.findings import Evidence, Finding
from orz_monitor.run import Coverage


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Checked:
    """One path that was checked: a verdict, or why there is none.

    Attributes:
        path: as the user gave it.
        verdict: what the rules say, or None where the path could not be read.
        error: why it could not be read.
    """

    path: Path
    verdict: Verdict | None = None
    error: UnreadableRunError | None = None

    def status(self, fail_on: Severity) -> Status:
        """Return the outcome of this path."""
        return Status.INCONCLUSIVE if self.verdict is None else self.verdict.status(fail_on)

    def reason(self, fail_on: Severity) -> str:
        """Return why nothing was decided; empty where something was, as of a run that crashed before any metric."""
        if self.error is not None:
            return str(self.error)
        if self.verdict is not None and self.verdict.status(fail_on) is Status.INCONCLUSIVE:
            found, remedy = self.verdict.undecided
            return f"{self.verdict.run.path}: {found}\n  -> {remedy}"
        return ""


def overall(checks: Sequence[Checked], fail_on: Severity) -> Status:
    """Return the outcome of all paths: failed if one failed, else inconclusive if one could not be judged."""
    outcomes = {check.status(fail_on) for check in checks}
    return next((s for s in (Status.FAILED, Status.INCONCLUSIVE) if s in outcomes), Status.OK)


def document(checks: Sequence[Checked], fail_on: Severity = Severity.ERROR) -> dict[str, object]:
    """Return the JSON document of a check of one or more paths."""
    verdicts = [check.verdict for check in checks if check.verdict is not None]
    presets = sorted({verdict.run.preset for verdict in verdicts})
    return {
        "v": VERSION,
        "status": str(overall(checks, fail_on)),
        "fail_on": str(fail_on),
        "findings": [finding_document(verdict, finding) for verdict in verdicts for finding in verdict.findings],
        "not_evaluated": [_not_evaluated(verdict, item) for verdict in verdicts for item in verdict.not_evaluated],
        "ignored": [
            finding_document(verdict, item.finding)
            | {"reason": item.reason, "until": str(item.until) if item.until else None}
            for verdict in verdicts
            for item in verdict.ignored
        ],
        "coverage": _coverage(verdicts, [check.error.coverage for check in checks if check.error is not None]),
        "preset": presets[0] if len(presets) == 1 else (None if not presets else "mixed"),
        "runs": [_run(check, fail_on) for check in checks],
    }


def as_json(checks: Sequence[Checked], fail_on: Severity = Severity.ERROR) -> str:
    """Return the document as indented JSON text."""
    return json.dumps(document(checks, fail_on), indent=2, allow_nan=False)


def number(value: float | None) -> float | str | None:
    """Return a number as JSON can hold it, the non-finite ones by name as in records."""
    return value if value is None or math.isfinite(value) else repr(value)


def finding_document(verdict: Verdict, finding: Finding) -> dict[str, object]:
    """Return one finding as JSON types: what was seen, where, on what evidence, and what to try."""
    return {
        "code": finding.code,
        "severity": str(finding.severity),
        "title": finding.title,
        "message": finding.message,
        "remedy": finding.remedy,
        "causes": [{"cause": c.what, "confirm": c.confirm, "try": c.try_} for c in finding.causes],
        "caveat": finding.caveat,
        "evidence": [_evidence(item) for item in finding.evidence],
        "first_step": finding.first_step,
        "last_step": finding.last_step,
        "run": verdict.run.name,
        "file": str(finding.file),
        "line": finding.line,
    }


def _evidence(item: Evidence) -> dict[str, object]:
    """Return one piece of evidence."""
    return {
        "metric": item.metric,
        "observed": number(item.observed),
        "observed_is": item.observed_is,
        "baseline": number(item.baseline),
        "baseline_is": item.baseline_is if item.baseline is not None else "",
    }


def _not_evaluated(verdict: Verdict, item: NotEvaluated) -> dict[str, object]:
    """Return a rule that could not judge."""
    return {
        "code": item.code,
        "title": item.title,
        "reason": item.reason,
        "remedy": item.remedy,
        "run": verdict.run.name,
    }


def _coverage(verdicts: Sequence[Verdict], in_vain: Sequence[Coverage | None]) -> dict[str, object]:
    """Return how much of the input was understood, over all runs and what was read in vain."""
    parts = [*(verdict.run.coverage for verdict in verdicts), *(part for part in in_vain if part is not None)]
    return {
        "records": sum(part.num_records for part in parts),
        "unreadable_lines": sum(len(part.unreadable) for part in parts),
        "metrics": sorted({name for part in parts for name in part.recognised}),
        "unrecognised": sorted({name for part in parts for name in part.unrecognised}),
        "unread": sorted({name for part in parts for name in part.unread}),
        "missed_lines": sum(part.num_missed_lines for part in parts),
        "unnamed_numbers": sum(part.num_unnamed for part in parts),
        "dropped_keys": sum(part.num_dropped_keys for part in parts),
        "lines": sum(part.num_lines for part in parts),
        "metric_lines": sum(part.num_metric_lines for part in parts),
        "rules_evaluated": sum(len(v.passed) + len({f.code for f in v.findings}) for v in verdicts),
        "rules_not_evaluated": sum(len(verdict.not_evaluated) for verdict in verdicts),
    }


def _run(check: Checked, fail_on: Severity) -> dict[str, object]:
    """Return what is known of one path."""
    base: dict[str, object] = {"path": str(check.path), "status": str(check.status(fail_on))}
    if reason := check.reason(fail_on):
        base["reason"] = reason
    if check.verdict is None:
        return base
    run = check.verdict.run
    return base | {
        "name": run.name,
        "state": str(run.state),
        "preset": run.preset,
        "preset_because": run.kind.why,
        "trainer": run.framework,
        "steps": len(run.steps),
        "first_step": int(run.steps[0]) if len(run.steps) else None,
        "last_step": int(run.steps[-1]) if len(run.steps) else None,
        "restarts": list(run.restarts),
        "earlier_parts": [str(part) for part in run.earlier],
    }
