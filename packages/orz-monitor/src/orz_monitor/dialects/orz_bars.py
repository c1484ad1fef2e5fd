"""The frames of Open-Reasoner-Zero's bars of micro-batches: where they stand in a batch, and what they show."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from operator import methodcaller, not_
from typing import Final

import numpy as np

from orz_monitor.transport.batch import Batch

ACTOR: Final = b"Actor"
CRITIC: Final = b"ritic"
"""Roles, as many bytes of them as have one length."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bars:
    """Frames in their order, [M] each.

    Attributes:
        roles: `ACTOR` or `CRITIC`.
        counters: `17/18`.
        postfixes: `pg=0.033, kl=0.0827`; one whose end is missing ends in a newline.
        starts: where they begin in the text.
    """

    roles: Sequence[bytes]
    counters: Sequence[bytes]
    postfixes: Sequence[bytes]
    starts: Sequence[int]


def _frame(breaks: bytes) -> re.Pattern[bytes]:
    """Return what a frame of a bar looks like, with its repetition if that follows: tqdm shows a postfix twice.

    Nothing is tried twice, so that no text takes square time.

    Args:
        breaks: bytes that no part of it may hold.
    """
    bar = (
        rb" Train epoch \[[^|%b]{1,100}+\|[^|%b]{0,1000}+\| (?P<counter>[^ %b]{1,40}+)"
        rb" \[[^,%b]{1,40}+, [^,%b]{1,40}+(?<=it|/s), "
    ).replace(b"%b", breaks)
    return re.compile(
        rb"Train epoch \[(?<=(Actor|ritic)"  # OpenRLHF's have neither word
        b" Train epoch \\[)"
        + bar.removeprefix(rb" Train epoch \[")
        + rb"(?P<postfix>[^\]%b]{0,4000}+)(\]?)".replace(b"%b", breaks)
        + rb"(?:(\r)(?:Actor|Critic)"
        + bar.replace(b"?P<counter>", b"?:")
        + rb"(?P=postfix)\])?"
    )


STRICT: Final = _frame(rb"\r\n")
_LOOSE: Final = _frame(b"")
"""Reads a bar twice as fast, and what lines and refreshes are torn together as one: both must be counted."""
_BETWEEN: Final = re.compile(
    rb"\r?\n?(?:\x1b\[[\d;]{1,8}m)?(?:\(\w{1,60} pid=\d{1,10}(?:, ip=[\d.:]{1,40})?\))?(?:\x1b\[[\d;]{1,8}m)? ?\r?"
    rb"(?:Actor|Critic) "
)
_GROUPS: Final = methodcaller("groups")
_START: Final = methodcaller("start")
_END: Final = methodcaller("end")
_SPAN: Final = methodcaller("span")
_REPEATED: Final = 5
"""The last group of a frame that is followed by its repetition."""


def bars_in(batch: Batch) -> Bars | None:
    """Find the frames in a batch, and take them out of it; None where there are none."""
    frames, between = find_frames(batch.text)
    if not frames:
        return None
    roles, counters, postfixes, ends, _ = zip(*map(_GROUPS, frames), strict=True)
    if b"" in ends:
        postfixes = tuple(postfix + (b"" if end else b"\n") for postfix, end in zip(postfixes, ends, strict=True))
    starts = tuple(map(_START, frames))
    _take_out(batch, starts, tuple(map(_END, frames)), between)
    return Bars(roles=roles, counters=counters, postfixes=postfixes, starts=starts)


def find_frames(text: bytes) -> tuple[list[re.Match[bytes]], list[bytes]]:
    """Find the frames of bars, and what stands before each of them, behind the one before."""
    data = np.frombuffer(text, np.uint8)
    num_newlines, num_refreshes = (np.count_nonzero(data == byte) for byte in b"\n\r")
    for pattern in (_LOOSE, STRICT):
        frames = list(pattern.finditer(text))
        spans = list(map(_SPAN, frames))
        between = [text[end:start] for (_, end), (start, _) in zip([(0, 0), *spans], spans, strict=False)]
        outside = b"".join([*between, text[spans[-1][1] :] if spans else text])
        repeated = sum(match.lastindex == _REPEATED for match in frames)
        if num_newlines == outside.count(b"\n") and num_refreshes == outside.count(b"\r") + repeated:
            break
    return frames, between


def _take_out(batch: Batch, starts: Sequence[int], ends: Sequence[int], between: Sequence[bytes]) -> None:
    """Take bars out, and what stands between them where nobody would look for anything in it."""
    plain = {piece for piece in set(between) if _BETWEEN.fullmatch(piece)}
    begun = 0
    for at in compress(range(len(starts)), map(not_, map(plain.__contains__, between))):
        batch.take(begun, ends[at - 1] if at else 0)
        begun = starts[at]
    batch.take(begun, ends[-1])
