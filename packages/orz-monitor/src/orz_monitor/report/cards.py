"""Findings as cards: what was seen, the evidence, likely causes, what to try."""

from __future__ import annotations

from orz_cli.findings import Severity
from orz_monitor.engine import Ignored
from orz_monitor.findings import Evidence, Finding
from orz_monitor.report.charts import sparkline
from orz_monitor.report.content import Content
from orz_monitor.report.escape import escaped, with_code
from orz_monitor.report.facts import last_checkpoint_before
from orz_monitor.units import counted, shown

_SEVERITY_WORDS = {Severity.ERROR: "Error", Severity.WARN: "Warning", Severity.INFO: "Note"}


def findings(content: Content) -> str:
    """Draw each finding with its evidence, likely causes and what to try."""
    verdict = content.verdict
    if not verdict.findings:
        looked = f"{counted(len(verdict.passed), 'rule')} looked and found nothing"
        looked += f"; {len(verdict.not_evaluated)} could not judge." if verdict.not_evaluated else "."
        return f'<h2>Findings</h2><div class="card clean">{looked}</div>{_ignored(content)}'
    cards = "".join(_finding(content, finding) for finding in verdict.findings)
    return f"<h2>Findings</h2>{cards}{_ignored(content)}"


def _ignored(content: Content) -> str:
    """List the findings that the configuration takes out of the verdict, and why."""
    if not content.verdict.ignored:
        return ""
    rows = "".join(
        f"<tr><td>{escaped(item.finding.code)}</td><td>{with_code(item.finding.message)}</td>"
        f"<td>{escaped(_reason(item))}</td></tr>"
        for item in content.verdict.ignored
    )
    return (
        f"<details><summary>Ignored, as the configuration says: {len(content.verdict.ignored)}</summary>"
        '<div class="card saves"><table><thead><tr><th>rule</th><th>what was found</th><th>why it is ignored</th>'
        f"</tr></thead><tbody>{rows}</tbody></table></div></details>"
    )


def _reason(item: Ignored) -> str:
    """Say why a finding is ignored, and how long."""
    return f"{item.reason} (until {item.until})" if item.until else item.reason


def _finding(content: Content, finding: Finding) -> str:
    """Draw one finding."""
    severity = str(finding.severity)
    where = f"{finding.file.name}:{finding.line}" if finding.file is not None and finding.line is not None else ""
    saved = last_checkpoint_before(content.facts, finding.first_step) if finding.severity is not Severity.INFO else None
    pointer = f'<p class="pointer">Last checkpoint before it: step {saved}</p>' if saved is not None else ""
    causes = "".join(
        f"<li><b>{with_code(_capital(cause.what))}</b><span>Check: {with_code(cause.confirm)}</span>"
        f"<span><em>Try:</em> {with_code(cause.try_)}</span></li>"
        for cause in finding.causes
    )
    evidence = "".join(_evidence(content, finding, item) for item in finding.evidence)
    return (
        f'<article class="finding card is-{severity}"><div class="head">'
        f'<span class="pill {severity}">{_SEVERITY_WORDS[finding.severity]}</span><h3>{escaped(finding.title)}</h3>'
        f'<span class="where mono">{escaped(finding.code)}{" · " + escaped(where) if where else ""}</span></div>'
        f'<p class="what">{with_code(finding.message)}</p>{pointer}'
        + (f'<div class="evidence">{evidence}</div>' if evidence else "")
        + _excerpt(content, finding)
        + (f'<ol class="causes">{causes}</ol>' if causes else "")
        + (f'<p class="caveat">When to ignore it: {with_code(finding.caveat)}</p>' if finding.caveat else "")
        + "</article>"
    )


def _excerpt(content: Content, finding: Finding) -> str:
    """Draw the lines around the place that a finding points to."""
    if finding.file is None or finding.line is None:
        return ""
    excerpt = content.excerpts.get((finding.file, finding.line))
    if excerpt is None:
        return ""
    last = excerpt.first + len(excerpt.lines) - 1
    lines = "".join(
        f"<span{' class=meant' if number == excerpt.marked else ''}><i>{number}</i> {escaped(line)}</span>"
        for number, line in enumerate(excerpt.lines, start=excerpt.first)
    )
    return (
        f"<details><summary>{escaped(excerpt.path.name)}, lines {excerpt.first} to {last}</summary>"
        f'<pre class="excerpt" tabindex="0">{lines}</pre></details>'
    )


def _evidence(content: Content, finding: Finding, item: Evidence) -> str:
    """Draw one piece of evidence: a sparkline where the metric has one, and the numbers."""
    at = (finding.first_step, finding.last_step)
    steps = (int(at[0]), int(at[1])) if at[0] is not None and at[1] is not None else None
    logged = content.run.metrics.get(item.metric)
    drawing = sparkline(logged, steps, str(finding.severity)) if logged is not None else ""
    before = f"{escaped(shown(item.baseline))} → " if item.baseline is not None else ""
    basis = f"{item.baseline_is} → {item.observed_is}" if item.baseline is not None else item.observed_is
    return (
        f"<figure{'' if drawing else ' class=bare'}>{drawing}<figcaption>{escaped(item.metric)}<br>"
        f"<b>{before}{escaped(shown(item.observed))}</b><br>{escaped(basis)}</figcaption></figure>"
    )


def _capital(text: str) -> str:
    """Return a sentence's beginning with a capital, unless it begins with code."""
    return text if text.startswith("`") else text[:1].upper() + text[1:]
