"""Numbers for people."""

from __future__ import annotations

KILO = 1000


def gb(count: float) -> str:
    """Write bytes with three digits, in powers of 1000 as disks are sold: `15.2 GB`."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        text = f"{value:.0f}" if unit == "B" else f"{value:.3g}"
        if float(text) < KILO:
            return f"{text} {unit}"
        value /= KILO
    return f"{value:.3g} TB" if value < KILO else f"{value:,.0f} TB"


def count(value: float) -> str:
    """Write a number of parameters or tokens: `7.62 B`, `1.18 M`, `850`."""
    for size, unit in ((1e9, " B"), (1e6, " M")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:,.0f}"


def number(value: float) -> str:
    """Write a setting as people type it: `1e-6`, `0.001`, `0`."""
    mantissa, e, exponent = f"{value:g}".partition("e")
    return f"{mantissa}e{int(exponent)}" if e else mantissa


def share(each: float, whole: int) -> str:
    """Say how many of so many things one share has: `all 256`, `64`, `682 or 683`."""
    if each == whole:
        return f"all {whole:,}"
    least = int(each)
    return f"{least:,}" if least == each else f"{least:,} or {least + 1:,}"


def times(num: int, noun: str) -> str:
    """Count things: `1 step`, `12 steps`."""
    return f"{num:,} {noun}" if num == 1 else f"{num:,} {noun}s"
