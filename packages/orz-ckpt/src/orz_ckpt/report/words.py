"""Names and numbers as people read them."""

from __future__ import annotations

from typing import Final

_UNITS: Final = ("kB", "MB", "GB", "TB", "PB")


def plain(text: str) -> str:
    """Return `text` with everything that a terminal or XML would not print written as an escape."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def size(nbytes: int) -> str:
    """Return a number of bytes with three digits: `1.23 GB` is 1.23e9 bytes."""
    value, unit = float(nbytes), "bytes"
    for larger in _UNITS:
        if value < 1000:  # noqa: PLR2004  the next unit begins here
            break
        value, unit = value / 1000, larger
    return f"{nbytes} bytes" if unit == "bytes" else f"{value:.3g} {unit}"


def count(number: int, noun: str) -> str:
    """Return `1 file`, `2 files`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def relative(path: str, base: str) -> str:
    """Return `path` as seen from `base` where it lies below, otherwise as it is."""
    return path.removeprefix(f"{base.rstrip('/')}/")
