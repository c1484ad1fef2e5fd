"""A comparison as one HTML file that needs no network."""

from __future__ import annotations

from typing import Final

import numpy as np

from orz_monitor import __version__
from orz_monitor.compare.alignment import CLEAR, Comparison, Line, Row
from orz_monitor.compare.text import NOT_ALL, difference, distance, range_of
from orz_monitor.report.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Scale, thinned, ticks, y_scale
from orz_monitor.report.escape import escaped
from orz_monitor.report.html import framed
from orz_monitor.stats import smooth
from orz_monitor.units import shown

_COLOURS: Final = ("p1", "p4", "p6", "p5", "p3", "p7", "p8")
"""Colours of the page's styles, those that are told apart best before the others; more runs repeat them, dashed."""
_FEWEST_SMOOTHED: Final = 8


def as_page(comparison: Comparison) -> str:
    """Return the page: a table of the differences, largest first, and a chart of each metric with a line a run."""
    rows = sorted(comparison.rows, key=distance, reverse=True)
    title = " and ".join(comparison.names) if len(comparison.names) == 2 else f"{len(comparison.names)} runs"  # noqa: PLR2004
    lede = f"Compared over {range_of(comparison)}. Values are medians of its last tenth; a sigma is both runs' noise."
    body = [
        f'<header><h1>{escaped(title)}</h1><p class="lede">{escaped(lede)}</p></header>',
        *(f'<p class="incomplete">{escaped(NOT_ALL)}: {escaped(problem)}</p>' for problem in comparison.problems),
        *(f'<p class="names">{escaped(note)}</p>' for note in comparison.notes),
        f'<div class="legend">{_legend(comparison)}</div>',
        _table(comparison, rows),
        f'<h2>Metrics</h2><div class="panels">{"".join(_panel(comparison, row) for row in rows)}</div>',
    ]
    if comparison.only_some:
        names = " · ".join(f"<code>{escaped(name)}</code>" for name in comparison.only_some)
        body.append(f'<h2>Not in every run</h2><p class="names">{names}</p>')
    body.append(f"<footer>orz monitor compare {escaped(__version__)}</footer>")
    return framed(title, "compared", "\n".join(body), styles=_STYLES)


_STYLES: Final = "\n" + "\n".join(
    [f"svg .line.r{n} {{ stroke: var(--{colour}); }}" for n, colour in enumerate(_COLOURS)]
    + [
        "svg .line.again { stroke-dasharray: 5 3; }",
        ".clear { font-weight: 650; }",
        ".incomplete { color: var(--warn); margin: 8px 0 0; }",
        ".table { overflow-x: auto; }",
        "header + .legend { margin-top: 16px; }",
    ]
)


def _legend(comparison: Comparison) -> str:
    """Name the runs beside their lines."""
    return "".join(
        f'<span><svg viewBox="0 0 22 12" aria-hidden="true"><path class="line {_css(index)}" d="M1 6H21"/></svg>'
        f"{escaped(name)}</span>"
        for index, name in enumerate(comparison.names)
    )


def _table(comparison: Comparison, rows: list[Row]) -> str:
    """List the values of all metrics."""
    heads = "".join(f'<th class="num">{escaped(name)}</th>' for name in comparison.names)
    lines = []
    for row in rows:
        cells = "".join(
            f'<td class="num{" clear" if level.clear else ""}">{escaped(shown(level.value))} '
            f"<small>{escaped(difference(level))}</small></td>"
            for level in row.levels
        )
        lines.append(f"<tr><td>{escaped(row.key)}</td>{cells}</tr>")
    return (
        f"<h2>Differences</h2><div class='table'><table><thead><tr><th>metric</th>{heads}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _panel(comparison: Comparison, row: Row) -> str:
    """Draw one metric, with a line a run."""
    said = "; ".join(
        f"{name} {shown(level.value)} {difference(level)}".strip()
        for name, level in zip(comparison.names, row.levels, strict=True)
    )
    mark = "is above noise" if distance(row) >= CLEAR else ""
    return (
        f'<figure class="panel card"><div class="top"><span class="name">{escaped(row.key)}</span>'
        f'<span class="value"><span class="unit">{mark}</span></span></div>'
        f"{_chart(comparison, row, label=f'{row.key}: {said}')}</figure>"
    )


def _chart(comparison: Comparison, row: Row, *, label: str) -> str:
    """Draw the lines of one metric over the axis, each to its own end."""
    longest = max((float(line.at[-1]) for line in row.lines if len(line.at)), default=comparison.last)
    begin = min((float(line.at[0]) for line in row.lines if len(line.at)), default=comparison.first)
    x = Scale(low=begin, high=longest if longest > begin else begin + 1, start=LEFT, end=WIDTH - RIGHT)
    y = y_scale(np.concatenate([line.values for line in row.lines]))
    parts = []
    for value in ticks(y.low, y.high, log=y.log):
        parts.append(f'<path class="grid" d="M{LEFT} {y(value):.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text class="tick y" x="{LEFT - 6}" y="{y(value) + 3.5:.1f}">{escaped(shown(value))}</text>')
    parts += [
        f'<text class="tick x" x="{x(value):.1f}" y="{HEIGHT - 6}">{escaped(shown(value))}</text>'
        for value in ticks(x.low, x.high, most=5)
        if value <= longest
    ]
    end = x(comparison.last)
    if comparison.last < longest:
        parts.append(
            f'<path class="restart" d="M{end:.1f} {TOP}V{HEIGHT - BOTTOM}"><title>compared up to here</title></path>'
        )
    parts += [_path(line, x, y, _css(index)) for index, line in enumerate(row.lines)]
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escaped(label)}">{"".join(parts)}</svg>'


def _path(line: Line, x: Scale, y: Scale, css: str) -> str:
    """Draw the smoothed course of one run; single points as dots."""
    values = smooth(line.values, 0.2) if len(line.values) >= _FEWEST_SMOOTHED else line.values
    points = [(x(at), y(value)) for at, value in thinned(line.at.tolist(), values.tolist())]
    if len(points) == 1:
        return f'<circle class="dot" cx="{points[0][0]:.1f}" cy="{points[0][1]:.1f}" r="3"/>'
    if not points:
        return ""
    return f'<path class="line {css}" d="M{"L".join(f"{px:.1f} {py:.1f}" for px, py in points)}"/>'


def _css(index: int) -> str:
    """Return the classes of one run's line."""
    return f"r{index % len(_COLOURS)}" + (" again" if index >= len(_COLOURS) else "")
