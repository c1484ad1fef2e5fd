"""Names and numbers as people read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from orz_ckpt.quoting import brief

if TYPE_CHECKING:
    from collections.abc import Iterable

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


def yes_no(known: bool | None) -> str:  # noqa: FBT001  it is what is written
    """Return `yes`, `no`, or `?` for what nobody knows."""
    return "?" if known is None else "yes" if known else "no"


def listed(names: Iterable[str], most: int) -> str:
    """Return the first `most` names, each as an error message quotes it, and `...` where there are more."""
    known = list(names)
    return ", ".join(map(brief, known[:most])) + (", ..." if len(known) > most else "")


def relative(path: str, base: str) -> str:
    """Return `path` as seen from `base` where it lies below, otherwise as it is."""
    return path.removeprefix(f"{base.rstrip('/')}/")


def spans(numbers: Iterable[int]) -> str:
    """Write numbers as people do: `0, 2-5 and 8`."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][-1] + 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    texts = ["-".join(map(str, run)) for run in runs]
    return texts[0] if len(texts) == 1 else " and ".join((", ".join(texts[:-1]), texts[-1])) if texts else "none"


def ranks(numbers: Iterable[int]) -> str:
    """Write ranks: `rank 3`, `ranks 0-2 and 5`."""
    distinct = set(numbers)
    return f"rank{'' if len(distinct) == 1 else 's'} {spans(distinct)}"
