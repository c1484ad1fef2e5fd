"""The frames of Open-Reasoner-Zero's bars of micro-batches: where they stand in a batch, and what they show."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from operator import not_
from typing import Final, NamedTuple

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
        rb"(Train epoch \[(?<=(Actor|ritic)"  # OpenRLHF's have neither word
        b" Train epoch \\[)"
        + bar.removeprefix(rb" Train epoch \[")
        + rb"(?P<postfix>[^\]%b]{0,4000}+)(\]?)".replace(b"%b", breaks)
        + rb"(?:(\r)(?:Actor|Critic)"
        + bar.replace(b"?P<counter>", b"?:")
        + rb"(?P=postfix)\])?)"
    )


STRICT: Final = _frame(rb"\r\n")
_LOOSE: Final = _frame(b"")
"""Reads a bar twice as fast, and what lines and refreshes are torn together as one: both must be counted."""
_BETWEEN: Final = re.compile(
    rb"\r?\n?(?:\x1b\[[\d;]{1,8}m)?(?:\(\w{1,60} pid=\d{1,10}(?:, ip=[\d.:]{1,40})?\))?(?:\x1b\[[\d;]{1,8}m)? ?\r?"
    rb"(?:Actor|Critic) "
)
_STRIDE: Final = STRICT.groups + 1


def bars_in(batch: Batch) -> Bars | None:
    """Find the frames in a batch, and take them out of it; None where there are none."""
    frames = find_frames(batch.text)
    if not frames.texts:
        return None
    lengths = np.fromiter(map(len, frames.texts), np.int64)
    ends = np.cumsum(lengths + np.fromiter(map(len, frames.between), np.int64, len(lengths)))
    starts = (ends - lengths).tolist()
    postfixes = frames.postfixes
    if b"" in frames.ends:
        postfixes = [postfix + (b"" if end else b"\n") for postfix, end in zip(postfixes, frames.ends, strict=True)]
    _take_out(batch, starts, ends.tolist(), frames.between[:-1])
    return Bars(roles=frames.roles, counters=frames.counters, postfixes=postfixes, starts=starts)


class Frames(NamedTuple):
    """A text in pieces, [M] each: the frames in it, with their repetitions, and their parts.

    Attributes:
        between: what stands before each frame, behind the one before, and behind the last, [M + 1].
        texts: the frames.
        roles: `ACTOR` or `CRITIC`.
        counters: `17/18`.
        postfixes: `pg=0.033, kl=0.0827`.
        ends: the bracket at the end, empty where it is missing.
        refreshes: what a repetition begins with, None where there is none.
    """

    between: Sequence[bytes]
    texts: Sequence[bytes]
    roles: Sequence[bytes]
    counters: Sequence[bytes]
    postfixes: Sequence[bytes]
    ends: Sequence[bytes]
    refreshes: Sequence[bytes | None]


def find_frames(text: bytes) -> Frames:
    """Find the frames of bars."""
    data = np.frombuffer(text, np.uint8)
    num_newlines, num_refreshes = (np.count_nonzero(data == byte) for byte in b"\n\r")
    for pattern in (_LOOSE, STRICT):
        pieces = pattern.split(text)
        frames = Frames(*(pieces[part::_STRIDE] for part in range(_STRIDE)))
        outside = b"".join(frames.between)
        num_repeated = len(frames.texts) - frames.refreshes.count(None)
        if num_newlines == outside.count(b"\n") and num_refreshes == outside.count(b"\r") + num_repeated:
            break
    return frames


def _take_out(batch: Batch, starts: Sequence[int], ends: Sequence[int], between: Sequence[bytes]) -> None:
    """Take bars out, and what stands between them where nobody would look for anything in it."""
    plain = {piece for piece in set(between) if _BETWEEN.fullmatch(piece)}
    begun = 0
    for at in compress(range(len(starts)), map(not_, map(plain.__contains__, between))):
        batch.take(begun, ends[at - 1] if at else 0)
        begun = starts[at]
    batch.take(begun, ends[-1])
