"""What a page can't say: rules that could not judge, metrics that were not logged, lines that were not read."""

from __future__ import annotations

from typing import Final

from orz_monitor.formats.text import not_read
from orz_monitor.formats.unknown_trainer import read_as
from orz_monitor.records import describe
from orz_monitor.report.content import Content
from orz_monitor.report.escape import escaped, with_code
from orz_monitor.report.how_to_log import how_to_log
from orz_monitor.rotation import read_with
from orz_monitor.rules import RULES
from orz_monitor.units import counted

_MOST_LINES: Final = 8
"""Unreadable lines named one by one."""
_MOST_NAMES: Final = 60


def missing(content: Content) -> str:
    """Draw what could not be judged, what was not logged, and how much of the input was understood."""
    parts = ["<h2>What this page can't say</h2>", _coverage(content)]
    if content.verdict.not_evaluated:
        rows = "".join(
            f"<tr><td>{escaped(item.title)}</td><td>{with_code(item.reason)}</td></tr>"
            for item in content.verdict.not_evaluated
        )
        parts.append(
            '<section class="card clean"><h3>Not evaluated</h3><table><thead><tr><th>rule</th><th>why</th></tr>'
            f"</thead><tbody>{rows}</tbody></table></section>"
        )
    if content.not_logged:
        parts.append(_not_logged(content))
    return "".join(parts)


def _not_logged(content: Content) -> str:
    """List the metrics that were not logged: what they would tell, who waits for them, and how to log them."""
    rows = []
    for name in content.not_logged:
        spec, how = describe(name), how_to_log(name, content.run.framework, content.run.hints)
        waiting = ", ".join(rule.code for rule in RULES if name in (*rule.needs, *rule.needs_any))
        rows.append(
            f"<tr><td><code>{escaped(name)}</code></td><td>{escaped(spec.meaning if spec else '')}</td>"
            f"<td>{escaped(waiting) or '-'}</td><td>{with_code(how)}</td></tr>"
        )
    return (
        f"<details><summary>Not logged: {counted(len(rows), 'metric')}, with how to log them</summary>"
        '<div class="card saves"><table><thead><tr><th>metric</th><th>what it tells</th><th>rules that need it</th>'
        f"<th>how to log it</th></tr></thead><tbody>{''.join(rows)}</tbody></table></div></details>"
    )


def _coverage(content: Content) -> str:
    """Say how much of the input was understood."""
    cover = content.run.coverage
    unreadable = len(cover.unreadable)
    if cover.num_lines:
        known, lines, were = cover.num_metric_lines, cover.num_lines, ("line holds metrics", "lines hold metrics")
    else:
        known, lines = cover.num_records, cover.num_records + unreadable
        were = "line was understood", "lines were understood"
    share = f"{100 * known / lines:.1f} % of {counted(lines, *were)}" if lines else "nothing was read"
    parts = [f"{share}; {counted(len(cover.recognised), 'metric')} recognised, {len(cover.unrecognised)} not."]
    if said := read_with(content.run.earlier):
        parts.append(f"{said[:1].upper()}{said[1:]}.")
    if said := read_as(content.run):
        parts.append(f"{said[:1].upper()}{said[1:]}.")
    if unreadable:
        named = "; ".join(f"line {line.number}: {line.error}" for line in cover.unreadable[:_MOST_LINES])
        more = f"; and {unreadable - _MOST_LINES} more" if unreadable > _MOST_LINES else ""
        parts.append(f"Not read: {named}{more}.")
    if cover.unrecognised:
        named = ", ".join(cover.unrecognised[:_MOST_NAMES])
        more = f", and {len(cover.unrecognised) - _MOST_NAMES} more" if len(cover.unrecognised) > _MOST_NAMES else ""
        parts.append(f"Not in the registry: {named}{more}.")
    if missed := not_read(cover):
        parts.append(f"{missed[:1].upper()}{missed[1:]}.")
    return f'<p class="names coverage">{escaped(" ".join(parts))}</p>'
