"""A picture as PNG, drawn by Pillow: the only module here that imports it, and what the extra `png` is for."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Final

from PIL import Image, ImageDraw, ImageFont

from orz_ckpt.diff.picture import Rectangle

if TYPE_CHECKING:
    from orz_ckpt.diff.picture import Picture

SCALE: Final = 2
"""Dots for each unit: small letters stay legible."""
_ANCHORS: Final = {"start": "ls", "middle": "ms", "end": "rs"}
"""What SVG calls them, and Pillow: left, middle and right of the line that letters stand on."""


def to_png(picture: Picture) -> bytes:
    """Return the PNG file, `SCALE` times as many dots wide and high as the picture is."""
    image = Image.new("RGB", (picture.width * SCALE, picture.height * SCALE), "#ffffff")
    draw = ImageDraw.Draw(image)
    for shape in picture.shapes:
        x, y = shape.x * SCALE, shape.y * SCALE
        if isinstance(shape, Rectangle):
            corner = (x + shape.width * SCALE - 1, y + shape.height * SCALE - 1)  # Pillow draws the last dot, too
            draw.rectangle(((x, y), corner), fill=shape.fill, outline=shape.outline or None)
        else:
            font = ImageFont.load_default(shape.size * SCALE)
            draw.text((x, y), shape.text, fill=shape.fill, font=font, anchor=_ANCHORS[shape.anchor])
    out = BytesIO()
    image.save(out, format="PNG")
    return out.getvalue()
