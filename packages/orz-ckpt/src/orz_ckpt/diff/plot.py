"""How much each part of each layer changed, as a heat map in SVG; drawn by hand, it needs no library."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING, Final

from orz_ckpt.report.words import plain
from orz_ckpt.tensors.names import OUTSIDE, layer_of, module_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orz_ckpt.diff.summary import Diff, TensorDiff

_CELL: Final = 18
_LEFT, _TOP, _BOTTOM, _RIGHT = 250, 64, 70, 24
_FONT: Final = 'font-family="system-ui, sans-serif" font-size="11"'
_COLOURS: Final = ("#f4f7fb", "#c6dbef", "#9ecae1", "#6baed6", "#3182bd", "#08519c", "#08306b")
"""From least to most changed; equal steps of the logarithm."""
_SAME: Final = "#ffffff"
_STRANGE: Final = "#d62728"
"""Of changes from or to NaN or infinity, or from nothing but zeros."""
_MANY_LAYERS: Final = 12


def heat_map(diff: Diff) -> str:
    """Return an SVG document: a row for each kind of tensor, a column for each layer, darker for more change.

    The colour is the norm of B - A relative to that of A, on a logarithmic scale between the smallest and the largest.
    """
    modules = list(dict.fromkeys(module_of(tensor.name) for tensor in diff.tensors))
    layers = sorted({layer_of(tensor.name) for tensor in diff.tensors} - {OUTSIDE})
    columns = [*layers, OUTSIDE]
    cells = {(module_of(tensor.name), layer_of(tensor.name)): tensor for tensor in diff.tensors}
    sizes = [tensor.relative for tensor in diff.changed if 0 < tensor.relative < math.inf]
    low, high = (min(sizes), max(sizes)) if sizes else (0.0, 0.0)
    width = _LEFT + _CELL * len(columns) + _RIGHT
    width = max(width, _LEFT + 220)
    height = _TOP + _CELL * len(modules) + _BOTTOM
    title = f"Relative change, {len(diff.changed):,} of {len(diff.tensors):,} tensors changed"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" {_FONT}>',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text x="12" y="20" font-size="14" font-weight="600">{title}</text>',
        f'<text x="12" y="38" fill="#555">{_text(f"A {diff.a.path}")}</text>',
        f'<text x="12" y="52" fill="#555">{_text(f"B {diff.b.path}")}</text>',
    ]
    for row, module in enumerate(modules):
        y = _TOP + _CELL * row
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 13}" text-anchor="end">{_text(module)}</text>')
        for column, layer in enumerate(columns):
            tensor = cells.get((module, layer))
            if tensor is not None:
                parts.append(_cell(_LEFT + _CELL * column, y, tensor, low, high))
    parts += _layer_numbers(columns, _TOP + _CELL * len(modules) + 14)
    parts += _legend(low, high, _TOP + _CELL * len(modules) + 34)
    return "".join([*parts, "</svg>\n"])


def _cell(x: int, y: int, tensor: TensorDiff, low: float, high: float) -> str:
    title = (
        f"{tensor.name}: {tensor.changed_share:.2%} of the numbers changed, relative norm {tensor.relative:.3g},"
        f" largest change {tensor.largest:.3g}"
    )
    return (
        f'<rect x="{x}" y="{y}" width="{_CELL - 1}" height="{_CELL - 1}" fill="{_colour(tensor, low, high)}"'
        f' stroke="#ddd" stroke-width="0.5"><title>{_text(title)}</title></rect>'
    )


def _colour(tensor: TensorDiff, low: float, high: float) -> str:
    if not tensor.changed:
        return _SAME
    if tensor.nonfinite or not 0 < tensor.relative < math.inf:
        return _STRANGE
    share = math.log(tensor.relative / low) / math.log(high / low) if high > low else 1.0
    return _COLOURS[min(int(share * len(_COLOURS)), len(_COLOURS) - 1)]


def _layer_numbers(columns: Sequence[int], y: int) -> list[str]:
    every = max(1, len(columns) // _MANY_LAYERS)
    return [
        f'<text x="{_LEFT + _CELL * index + _CELL // 2}" y="{y}" text-anchor="middle" fill="#555">'
        f"{'-' if layer == OUTSIDE else layer}</text>"
        for index, layer in enumerate(columns)
        if index % every == 0 or layer == OUTSIDE
    ]


def _legend(low: float, high: float, y: int) -> list[str]:
    parts = [f'<text x="{_LEFT - 8}" y="{y + 11}" text-anchor="end" fill="#555">norm of B - A / norm of A</text>']
    for index, colour in enumerate((_SAME, *_COLOURS)):
        parts.append(
            f'<rect x="{_LEFT + _CELL * index}" y="{y}" width="{_CELL - 1}" height="14" fill="{colour}" stroke="#ddd"/>'
        )
    for index, label in ((0, "0"), (1, f"{low:.1e}"), (len(_COLOURS), f"{high:.1e}")):
        x = _LEFT + _CELL * index + _CELL // 2
        anchor = "start" if index == 1 else "middle"
        parts.append(f'<text x="{x}" y="{y + 28}" text-anchor="{anchor}" fill="#555">{label}</text>')
    return parts


def _text(text: str) -> str:
    return escape(plain(text))
