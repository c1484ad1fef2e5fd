"""A picture of rectangles and words, and its SVG, which needs no library; `png` draws the same one in dots."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Literal

Anchor = Literal["start", "middle", "end"]
"""Which part of its text a label's `x` is; as SVG calls them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rectangle:
    """A filled rectangle."""

    x: int
    y: int
    """Of its upper edge; down is more."""
    width: int
    height: int
    fill: str
    """A colour as `#rrggbb`."""
    outline: str = ""
    """Likewise; empty where there is none."""
    title: str = ""
    """What a viewer shows when the pointer rests on it, where it can."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Label:
    """A line of text without characters that cannot be printed."""

    x: int
    y: int
    """Of the line that its letters stand on."""
    text: str
    size: int = 11
    anchor: Anchor = "start"
    fill: str = "#000000"


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """Its shapes, one drawn over the other, on white."""

    width: int
    height: int
    """Both in the unit of all coordinates: a pixel of an ordinary screen."""
    shapes: tuple[Rectangle | Label, ...]


def to_svg(picture: Picture) -> str:
    """Return the SVG document."""
    size = f"{picture.width} {picture.height}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" role="img" font-family="system-ui, sans-serif">',
        f'<rect width="{picture.width}" height="{picture.height}" fill="#ffffff"/>',
        *(_rectangle(shape) if isinstance(shape, Rectangle) else _label(shape) for shape in picture.shapes),
        "</svg>\n",
    ]
    return "".join(parts)


def _rectangle(shape: Rectangle) -> str:
    outline = f' stroke="{shape.outline}" stroke-width="0.5"' if shape.outline else ""
    head = f'<rect x="{shape.x}" y="{shape.y}" width="{shape.width}" height="{shape.height}" fill="{shape.fill}"'
    return f"{head}{outline}>{f'<title>{escape(shape.title)}</title>' if shape.title else ''}</rect>"


def _label(shape: Label) -> str:
    anchor = "" if shape.anchor == "start" else f' text-anchor="{shape.anchor}"'
    head = f'<text x="{shape.x}" y="{shape.y}" font-size="{shape.size}" fill="{shape.fill}"'
    return f"{head}{anchor}>{escape(shape.text)}</text>"
