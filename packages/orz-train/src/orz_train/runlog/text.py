"""Numbers, durations and sampled text, short enough to read at a glance."""

from __future__ import annotations

import math

_KILO = 1000
_MINUTE_S = 60
_CUT = "..."
_SMALL, _LARGE = 1e-4, 1e5
_NOISE = 1e-6
"""Losses and KLs below it are float32's rounding error, not a measurement."""
_FORMS = ((0.1, ".2g"), (10, ".3f"), (1000, ".1f"))
"""How to write a number that is smaller than the limit."""


def number(value: float) -> str:
    """Write a number with the two or three digits that matter: `0.412`, `0.0013`, `812`, `-1.3e-05`, `nan`."""
    size = abs(value)
    if not math.isfinite(value):
        return repr(float(value))
    if value == round(value) and size < _LARGE:
        return str(round(value))
    if not _SMALL <= size < _LARGE:
        return f"{value:.1e}"
    form = next((form for limit, form in _FORMS if size < limit), ".0f")
    return f"{value:{form}}"


def above_noise(value: float) -> float:
    """Return 0 for what is no more than the rounding of sums, such as the policy loss of a single update."""
    return 0.0 if abs(value) < _NOISE else value


def signed(value: float) -> str:
    """Write a difference with its sign."""
    return f"+{number(value)}" if value >= 0 else number(value)


def clock(seconds: float | None) -> str:
    """Write a duration as `m:ss` or `h:mm:ss`; `?` where it isn't known."""
    if seconds is None or not math.isfinite(seconds):
        return "?"
    minutes, rest = divmod(round(seconds), _MINUTE_S)
    hours, minutes = divmod(minutes, _MINUTE_S)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def duration(seconds: float) -> str:
    """Write the seconds of one step: `0.84 s`, `12.3 s`, or a clock from a minute on."""
    if seconds >= _MINUTE_S:
        return clock(seconds)
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds:.2f} s"


def size(num_bytes: float) -> str:
    """Write a number of bytes with three digits, in powers of 1000 as disks are sold: `512 B`, `6.2 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        text = f"{num_bytes:.0f}" if unit == "B" else f"{num_bytes:.3g}"
        if float(text) < _KILO:
            return f"{text} {unit}"
        num_bytes /= _KILO
    return f"{num_bytes:.3g} TB" if num_bytes < _KILO else f"{num_bytes:.0f} TB"


def printable(text: str) -> str:
    r"""Escape whatever isn't a visible character or a space.

    A model may sample anything: nothing it says may move the cursor, recolour the terminal or hide text.

    Example:
        >>> printable("7" + chr(27) + "[2J")
        '7\\x1b[2J'
    """
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def shortened(text: str, width: int) -> str:
    """Cut the middle out of a text that is longer than `width`: tasks and answers tend to end with the point.

    Example:
        >>> shortened("What is 12 + 30? Think step by step.", 20)
        'What is 1...by step.'
    """
    text = printable(text)
    if len(text) <= width:
        return text
    kept = max(0, width - len(_CUT))
    tail = kept // 2
    return text[: kept - tail] + _CUT + (text[-tail:] if tail else "")
