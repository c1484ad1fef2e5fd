"""Rectangles and words drawn by hand: where their dots are, and what their SVG says."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from io import BytesIO

import pytest

from orz_ckpt.diff.picture import Label, Picture, Rectangle, to_svg

pytestmark = pytest.mark.unit

SVG = "{http://www.w3.org/2000/svg}"
PICTURE = Picture(
    width=40,
    height=20,
    shapes=(
        Rectangle(x=1, y=2, width=3, height=4, fill="#ff0000", title="<a & b>"),
        Rectangle(x=3, y=2, width=3, height=4, fill="#0000ff"),
        Label(x=30, y=15, text="x < y", anchor="end", fill="#00ff00"),
    ),
)


def test_svg() -> None:
    """Sound XML with what was put in, in its order, text escaped."""
    root = ET.fromstring(to_svg(PICTURE))  # noqa: S314  our own
    background, first, second = root.iter(f"{SVG}rect")

    assert ("0 0 40 20", "40", "#ffffff") == (root.get("viewBox"), background.get("width"), background.get("fill"))
    assert ["1", "2", "3", "4", "#ff0000"] == [first.get(key) for key in ("x", "y", "width", "height", "fill")]
    assert ("<a & b>", None) == (first.findtext(f"{SVG}title"), second.find(f"{SVG}title"))
    (label,) = root.iter(f"{SVG}text")
    assert ("x < y", "end", "11") == (label.text, label.get("text-anchor"), label.get("font-size"))


def test_png() -> None:
    """Twice as many dots each way; a later shape lies over an earlier one, and a label's letters left of its end."""
    image = pytest.importorskip("PIL.Image")
    from orz_ckpt.diff.png import to_png  # noqa: PLC0415  it needs Pillow

    drawn = image.open(BytesIO(to_png(PICTURE)))
    red, blue, white = (255, 0, 0), (0, 0, 255), (255, 255, 255)
    assert ("PNG", (80, 40)) == (drawn.format, drawn.size)
    # The red one is dots 2-7 across and 4-11 down, the blue one over it 6-11 across.
    for place, colour in {
        (1, 4): white,
        (2, 3): white,
        (2, 4): red,
        (5, 11): red,
        (6, 4): blue,
        (11, 11): blue,
        (12, 11): white,
        (11, 12): white,
    }.items():
        assert colour == drawn.getpixel(place), place
    dots = [(x, y) for x in range(80) for y in range(40)]
    green = [dot for dot in dots if drawn.getpixel(dot)[1] > drawn.getpixel(dot)[0]]
    assert 12 < min(x for x, _ in green) < 40 < max(x for x, _ in green) <= 60
    assert max(y for _, y in green) <= 30 + 2 * 3, "but for the tail of the y, letters stand on its line"
