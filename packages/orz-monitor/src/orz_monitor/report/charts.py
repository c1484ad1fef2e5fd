"""Line charts as SVG: pure functions of numbers, styled by the page's CSS classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from orz_monitor.report.escape import escaped
from orz_monitor.series import Series, is_usable
from orz_monitor.stats import Array, smooth
from orz_monitor.units import shown

WIDTH, HEIGHT = 360, 150
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 10, 22
MOST_POINTS = 400
"""Points drawn of one series; of more, the lowest and highest of each stretch."""
_LOG_FROM = 1000.0
"""Ratio of largest to smallest value from which the axis is logarithmic."""
_NOTHING = 1e-290
"""Differences below it can't be divided further."""
_SMOOTHING = 0.2
_FEWEST_SMOOTHED = 8
_MOST_DOTS = 60
"""A series logged in few of the steps is drawn as dots up to this number."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Marks:
    """What is drawn into every chart of a run.

    Attributes:
        first: first step of the axis.
        last: last step of the axis.
        restarts: first steps after a restart.
        checkpoints: steps with a checkpoint.
        spans: first step, last step and severity of findings about this metric.
    """

    first: int
    last: int
    restarts: tuple[int, ...] = ()
    checkpoints: tuple[int, ...] = ()
    spans: tuple[tuple[int, int, str], ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Scale:
    """Maps values to places on the drawing."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Return the place of a value; what lies far outside is drawn at the edge."""
        if self.log:
            low, high = math.log(self.low), math.log(self.high)
            share = (math.log(value) - low) / (high - low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + min(max(share, -0.05), 1.05) * (self.end - self.start)


def line_chart(
    series: Series, marks: Marks, *, label: str, points: Series | None = None, most: int = MOST_POINTS
) -> str:
    """Draw a metric over the steps: raw and smoothed line, evaluation points, restarts, checkpoints, findings.

    Args:
        series: the metric.
        marks: what else is drawn.
        label: what a screen reader says.
        points: values drawn as circles on the same axis, such as held-out accuracy beside the reward.
        most: points drawn of the series; of more, the lowest and highest of each stretch.
    """
    finite = series.finite()
    drawn = [finite.values, *([points.finite().values] if points is not None else [])]
    x, y = _x_scale(marks), y_scale(np.concatenate(drawn))
    sparse = len(finite) <= min(_MOST_DOTS, max(3, (marks.last - marks.first) // 4))
    parts = [
        _frame(x, y, marks),
        *(_span(x, *span) for span in marks.spans),
        *(_vertical(x, step, "restart") for step in marks.restarts),
        *(_checkpoint(x, step) for step in marks.checkpoints),
        _path(finite, x, y, "line raw", most),
    ]
    smooths = not sparse and len(finite) >= _FEWEST_SMOOTHED
    if smooths:
        smoothed = Series(name=series.name, steps=finite.steps, values=smooth(finite.values, _SMOOTHING))
        parts.append(_path(smoothed, x, y, "line smooth", most))
    if sparse:
        parts += [_dot(x, y, int(s), float(v), "dot") for s, v in zip(finite.steps, finite.values, strict=True)]
    if points is not None:
        parts += _held_out(points.finite(), x, y)
    bad = series.steps[~is_usable(series.values)]
    parts += [f'<path class="nonfinite" d="M{x(s):.1f} {HEIGHT - BOTTOM}v-7"/>' for s in bad[:MOST_POINTS].tolist()]
    parts.append('<g class="cursor"><path class="hair"/><circle r="3.5"/></g>')
    return (
        f'<svg class="chart{" smooths" if smooths else ""}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" tabindex="0" '
        f'aria-label="{escaped(label)}" data-name="{escaped(series.name)}" '
        f'data-points="{_data(finite, most)}" data-axes="{marks.first},{marks.last},{LEFT},{WIDTH - RIGHT},'
        f'{y.low!r},{y.high!r},{HEIGHT - BOTTOM},{TOP},{int(y.log)}">{"".join(parts)}</svg>'
    )


def sparkline(series: Series, span: tuple[int, int] | None, severity: str) -> str:
    """Draw a metric small, without axes, with the span of a finding shaded."""
    finite = series.finite()
    if not len(finite):
        return ""
    width, height = 150, 34
    low, high = float(finite.values.min()), float(finite.values.max())
    x = Scale(
        low=float(finite.steps[0]), high=float(max(finite.steps[-1], finite.steps[0] + 1)), start=2, end=width - 2
    )
    y = y_scale(finite.values, start=height - 3, end=3)
    shade = ""
    if span is not None:
        left, right = x(max(span[0], int(finite.steps[0]))), x(min(span[1], int(finite.steps[-1])))
        shade = f'<rect class="span {severity}" x="{left:.1f}" width="{max(right - left, 2):.1f}" height="{height}"/>'
    label = f"{series.name}, from {shown(low)} to {shown(high)}"
    return (
        f'<svg class="spark" viewBox="0 0 {width} {height}" role="img" aria-label="{escaped(label)}">'
        f"{shade}{_path(_averaged(finite, width), x, y, 'line')}</svg>"
    )


def y_scale(values: Array, *, start: float = HEIGHT - BOTTOM, end: float = TOP) -> Scale:
    """Choose the axis of some values: from 0 where that costs little, logarithmic over three decades."""
    if not len(values):
        return Scale(low=0.0, high=1.0, start=start, end=end)
    low, high = float(values.min()), float(values.max())
    if low > _NOTHING and high / low > _LOG_FROM:
        return Scale(low=low, high=high, start=start, end=end, log=True)
    if 0 < low < 0.4 * high:
        low = 0.0
    if high - low < _NOTHING:
        room = 0.1 * abs(low) if abs(low) > _NOTHING else 1.0
        low, high = low - room, high + room
    elif low != 0:
        low -= 0.05 * (high - low)
    return Scale(low=low, high=high + 0.05 * (high - low), start=start, end=end)


def ticks(low: float, high: float, *, log: bool = False, most: int = 4) -> list[float]:
    """Return round values within a range: 1, 2 or 5 times a power of ten apart, or powers of ten."""
    if log:
        first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
        every = max(1, math.ceil((last - first + 1) / most))
        return [10.0**power for power in range(first, last + 1, every)]
    span = high - low
    if span < _NOTHING:
        return [low]
    base = 10.0 ** math.floor(math.log10(span / most))
    apart = next(base * factor for factor in (1, 2, 5, 10) if span / (base * factor) <= most)
    first = math.ceil(low / apart - 1e-9)
    return [round(index * apart, 12) for index in range(first, math.floor(high / apart + 1e-9) + 1)]


def thinned(steps: Sequence[float], values: Sequence[float], most: int = MOST_POINTS) -> list[tuple[float, float]]:
    """Keep at most `most` points: of each stretch the lowest and the highest, in their order."""
    if len(steps) <= most:
        return list(zip(steps, values, strict=True))
    kept: list[tuple[float, float]] = []
    for stretch in np.array_split(np.arange(len(steps)), most // 2):
        part = [values[index] for index in stretch]
        chosen = sorted({int(stretch[int(np.argmin(part))]), int(stretch[int(np.argmax(part))])})
        kept += [(steps[index], values[index]) for index in chosen]
    return kept


def _averaged(series: Series, most: int) -> Series:
    """Return a series of at most `most` points, each the mean of a stretch."""
    parts = np.array_split(np.arange(len(series)), min(most, len(series)))
    steps = np.array([int(series.steps[part[len(part) // 2]]) for part in parts], dtype=np.int64)
    return Series(name=series.name, steps=steps, values=np.array([series.values[part].mean() for part in parts]))


def _x_scale(marks: Marks) -> Scale:
    """Map steps to the drawing's width."""
    return Scale(low=marks.first, high=max(marks.last, marks.first + 1), start=LEFT, end=WIDTH - RIGHT)


def _frame(x: Scale, y: Scale, marks: Marks) -> str:
    """Draw grid lines and the numbers of both axes."""
    parts = []
    for value in ticks(y.low, y.high, log=y.log):
        at = y(value)
        parts.append(f'<path class="grid" d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text class="tick y" x="{LEFT - 6}" y="{at + 3.5:.1f}">{escaped(shown(value))}</text>')
    whole = [value for value in ticks(marks.first, x.high, most=5) if value == int(value) and value <= marks.last]
    parts += [f'<text class="tick x" x="{x(value):.1f}" y="{HEIGHT - 6}">{int(value)}</text>' for value in whole]
    return "".join(parts)


def _path(series: Series, x: Scale, y: Scale, css: str, most: int = MOST_POINTS) -> str:
    """Draw a line through the points."""
    points = thinned(series.steps.tolist(), series.values.tolist(), most)
    if len(points) < 2:  # noqa: PLR2004 - no line through one point
        return ""
    line = "L".join(f"{x(step):.1f} {y(value):.1f}" for step, value in points)
    return f'<path class="{css}" d="M{line}"/>'


def _dot(x: Scale, y: Scale, step: int, value: float, css: str) -> str:
    """Draw one point, with its value as the title."""
    return (
        f'<circle class="{css}" cx="{x(step):.1f}" cy="{y(value):.1f}" r="3">'
        f"<title>step {step}: {escaped(shown(value))}</title></circle>"
    )


def _held_out(points: Series, x: Scale, y: Scale) -> list[str]:
    """Draw evaluations: circles, or a line where they are many."""
    if len(points) > _MOST_DOTS:
        return [_path(points, x, y, "line eval")]
    return [_dot(x, y, int(s), float(v), "dot eval") for s, v in zip(points.steps, points.values, strict=True)]


def _span(x: Scale, first: int, last: int, severity: str) -> str:
    """Shade the steps of a finding."""
    left, right = x(first), x(last)
    return (
        f'<rect class="span {severity}" x="{left:.1f}" y="{TOP}" width="{max(right - left, 2):.1f}" '
        f'height="{HEIGHT - BOTTOM - TOP}"/>'
    )


def _vertical(x: Scale, step: int, css: str) -> str:
    """Draw a line at a step."""
    return (
        f'<path class="{css}" d="M{x(step):.1f} {TOP}V{HEIGHT - BOTTOM}"><title>restart at step {step}</title></path>'
    )


def _checkpoint(x: Scale, step: int) -> str:
    """Draw a small triangle below a step."""
    at, base = x(step), HEIGHT - BOTTOM
    return (
        f'<path class="checkpoint" d="M{at - 3:.1f} {base + 5}h6l-3 -5z"><title>checkpoint, step {step}</title></path>'
    )


def _data(series: Series, most: int) -> str:
    """Return the drawn points for the page's script, `step:value` each."""
    points = thinned(series.steps.tolist(), series.values.tolist(), most)
    return " ".join(f"{int(step)}:{value:.6g}" for step, value in points)
