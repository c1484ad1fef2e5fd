"""Numbers, counts and time spans as people read them."""

from __future__ import annotations

import math

_PREFIXES = "kMGT"
"""Thousands, millions, and so on."""


def shown(value: float) -> str:
    """Write a number for people: three significant digits, no needless exponent."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("-inf" if value < 0 else "inf")
    if value == 0:
        return "0"
    if 1e-3 <= abs(value) < 1e4:  # noqa: PLR2004 - where plain digits read best
        digits = max(0, 2 - math.floor(math.log10(abs(value))))
        text = f"{value:.{digits}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    mantissa, exponent = f"{value:.2e}".split("e")
    power = int(exponent) // 3
    if 1 <= power <= len(_PREFIXES):
        return f"{value / 1000**power:.3g}{_PREFIXES[power - 1]}"
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def counted(number: int | str, noun: str, plural: str = "") -> str:
    """Write how many there are of something, in words that fit: `1 line`, `2 lines`, `0 lines`.

    Args:
        number: how many; a size that is no count as `shown` writes it.
        noun: what is counted, as it is said of one.
        plural: the same of several; by default with an `s`.
    """
    return f"{number} {noun if str(number) == '1' else plural or noun + 's'}"


def in_nats(value: float) -> str:
    """Write an entropy or a divergence for people: `0.05 nats`, `1 nat`."""
    return counted(shown(value), "nat")


def duration(seconds: float) -> str:
    """Write a time span for people: `4.2 s`, `12 min`, `3 h 05 min`, `2 d 4 h`."""
    if 0 < seconds < 0.01:  # noqa: PLR2004 - nobody waits for it
        return "<0.01 s"
    if seconds < 9.95:  # noqa: PLR2004 - one digit after the point
        return f"{seconds:.2g} s"
    if seconds < 59.5:  # noqa: PLR2004 - the rest rounds to a minute
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    if hours == 0:
        return f"{minutes} min"
    if hours < 48:  # noqa: PLR2004 - two days
        return f"{hours} h {minutes:02d} min"
    return f"{hours // 24} d {hours % 24} h"
