"""tqdm's bars: `Train:  94%|#####4| 17/18 [02:06<00:06,  6.57s/it, pg=0.033, kl=0.0827]`.

Frames come torn, glued, several a line, with the postfix cut where the terminal ended, with blocks or `#`, and without
a total as `12it [00:03, 3.9it/s]`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_FRAME: Final = re.compile(
    rb"(?:(?P<name>[^|\r]{0,200}?): +)?[ \t]{0,4}(?:\d{1,3}%\|[^|]{0,400}\| ?)?"
    rb"(?P<done>\d{1,15})(?:\.\d{1,6})?(?:/(?P<total>\d{1,15}|\?)(?:\.\d{1,6})?)?(?:it)? "
    rb"\[(?P<elapsed>[\d:]{4,12})(?:<(?P<left>[\d:]{4,12}|\?))?(?P<rest>[^\]\r]*)\]?"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """One frame of a bar.

    Attributes:
        name: the description before it, or empty.
        done: its counter.
        total: what it counts to, or None.
        elapsed_s: seconds since it began.
        postfix: key and printed value of what stands behind the rate; the last one may be cut.
        end: where the frame ends in the text.
    """

    name: bytes
    done: int
    total: int | None
    elapsed_s: float
    postfix: tuple[tuple[bytes, bytes], ...]
    end: int


def read_bar(body: bytes, start: int = 0) -> Bar | None:
    """Read the frame that begins at `start`; None where there is none."""
    match = _FRAME.match(body, start)
    if match is None:
        return None
    items = match["rest"].split(b", ")[1:]
    pairs = [item.strip().partition(b"=") for item in items]
    total = match["total"]
    return Bar(
        name=(match["name"] or b"").strip(),
        done=int(match["done"]),
        total=int(total) if total and total != b"?" else None,
        elapsed_s=clock_s(match["elapsed"]),
        postfix=tuple((key.strip(), value.strip()) for key, mark, value in pairs if mark),
        end=match.end(),
    )


def clock_s(text: bytes) -> float:
    """Read tqdm's `MM:SS` or `H:MM:SS` as seconds.

    Example:
        >>> clock_s(b"58:14:56")
        209696.0
    """
    seconds = 0.0
    for part in text.split(b":")[:4]:
        seconds = seconds * 60 + (int(part) if part.isdigit() else 0)
    return seconds
