"""How much each part of each layer changed, as a heat map."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from orz_ckpt.diff.picture import Label, Picture, Rectangle
from orz_ckpt.report.words import plain
from orz_ckpt.tensors.names import OUTSIDE, layer_of, module_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from orz_ckpt.diff.picture import Anchor
    from orz_ckpt.diff.summary import Diff, TensorDiff

_CELL: Final = 18
_LEFT, _TOP, _BOTTOM, _RIGHT = 250, 64, 70, 24
_LEAST_RIGHT: Final = 220
"""What the legend takes to the right of the names."""
_COLOURS: Final = ("#f4f7fb", "#c6dbef", "#9ecae1", "#6baed6", "#3182bd", "#08519c", "#08306b")
"""From least to most changed; equal steps of the logarithm."""
_SAME: Final = "#ffffff"
_STRANGE: Final = "#d62728"
"""Of changes from or to NaN or infinity, from nothing but zeros, or of a type that has no numbers."""
_EDGE: Final = "#dddddd"
_GREY: Final = "#555555"
_MANY_LAYERS: Final = 12


def heat_map(diff: Diff) -> Picture:
    """Return a picture: a row for each kind of tensor, a column for each layer, darker for more change.

    The colour is the norm of B - A relative to that of A, on a logarithmic scale between the smallest and the largest;
    red is a change that has no such size.
    """
    modules = list(dict.fromkeys(module_of(tensor.name) for tensor in diff.tensors))
    layers = sorted({layer_of(tensor.name) for tensor in diff.tensors} - {OUTSIDE})
    columns = [*layers, OUTSIDE]
    cells = {(module_of(tensor.name), layer_of(tensor.name)): tensor for tensor in diff.tensors}
    sizes = [tensor.relative for tensor in diff.changed if 0 < tensor.relative < math.inf]
    low, high = (min(sizes), max(sizes)) if sizes else (math.nan, math.nan)
    title = f"Relative change, {len(diff.changed):,} of {len(diff.tensors):,} tensors changed"
    shapes: list[Rectangle | Label] = [
        Label(x=12, y=20, text=title, size=14),
        Label(x=12, y=38, text=plain(f"A {diff.a.path}"), fill=_GREY),
        Label(x=12, y=52, text=plain(f"B {diff.b.path}"), fill=_GREY),
    ]
    for row, module in enumerate(modules):
        y = _TOP + _CELL * row
        shapes.append(Label(x=_LEFT - 8, y=y + 13, text=plain(module), anchor="end"))
        for column, layer in enumerate(columns):
            tensor = cells.get((module, layer))
            if tensor is not None:
                shapes.append(_cell(_LEFT + _CELL * column, y, tensor, low, high))
    below = _TOP + _CELL * len(modules)
    shapes += _layer_numbers(columns, below + 14)
    shapes += _legend(low, high, below + 34, strange=any(not math.isfinite(tensor.relative) for tensor in diff.changed))
    width = max(_LEFT + _CELL * len(columns) + _RIGHT, _LEFT + _LEAST_RIGHT)
    return Picture(width=width, height=below + _BOTTOM, shapes=tuple(shapes))


def _cell(x: int, y: int, tensor: TensorDiff, low: float, high: float) -> Rectangle:
    title = (
        f"{tensor.name}: {tensor.changed_share:.2%} of the numbers changed, relative norm {tensor.relative:.3g},"
        f" largest change {tensor.largest:.3g}"
    )
    title += f", {tensor.nonfinite:,} NaN or Inf" if tensor.nonfinite else ""
    fill = _colour(tensor, low, high)
    return Rectangle(x=x, y=y, width=_CELL - 1, height=_CELL - 1, fill=fill, outline=_EDGE, title=plain(title))


def _colour(tensor: TensorDiff, low: float, high: float) -> str:
    if not math.isfinite(tensor.relative):
        return _STRANGE
    if not tensor.relative:
        return _SAME
    share = math.log(tensor.relative / low) / math.log(high / low) if high > low else 1.0
    return _COLOURS[min(int(share * len(_COLOURS)), len(_COLOURS) - 1)]


def _layer_numbers(columns: Sequence[int], y: int) -> Iterator[Label]:
    every = max(1, len(columns) // _MANY_LAYERS)
    for index, layer in enumerate(columns):
        if index % every == 0 or layer == OUTSIDE:
            x = _LEFT + _CELL * index + _CELL // 2
            yield Label(x=x, y=y, text="-" if layer == OUTSIDE else str(layer), anchor="middle", fill=_GREY)


def _legend(low: float, high: float, y: int, *, strange: bool) -> Iterator[Rectangle | Label]:
    """Explain the colours that can occur: none but white where nothing changed by any size."""
    yield Label(x=_LEFT - 8, y=y + 11, text="norm of B - A / norm of A", anchor="end", fill=_GREY)
    scale = () if math.isnan(low) else _COLOURS
    texts = {0: "0"} | ({1: f"{low:.1e}", len(scale): f"{high:.1e}"} if scale else {})
    colours = [_SAME, *scale]
    if strange:
        texts[len(colours) + 1] = "nan, inf"
        colours += ["", _STRANGE]
    for index, colour in enumerate(colours):
        x = _LEFT + _CELL * index
        if colour:
            yield Rectangle(x=x, y=y, width=_CELL - 1, height=14, fill=colour, outline=_EDGE)
        if index in texts:
            anchor: Anchor = "start" if index > len(scale) or index == 1 else "middle"
            yield Label(x=x + _CELL // 2, y=y + 28, text=texts[index], anchor=anchor, fill=_GREY)
