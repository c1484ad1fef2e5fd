"""The frames of Open-Reasoner-Zero's bars of micro-batches: where they stand in a batch, and what they show."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from operator import ne
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from orz_monitor.dialects.orz.frames import LABEL, Places, regular_frames
from orz_monitor.transport.batch import Batch
from orz_monitor.transport.pieces import Pieces
from orz_monitor.transport.scanning import SCANNER
from orz_monitor.transport.template import LONGEST_COUNT


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Bars:
    """Frames in their order, [M] each: those whose postfix is not that of the frame before, as tqdm shows each twice.

    Attributes:
        of_actor: whether it is of the actor's bar; if not, it is of the critic's.
        counters: `17/18`; or both numbers, [M, 2].
        postfixes: `pg=0.033, kl=0.0827`; one whose end is missing ends in a newline.
        starts: where they begin in the text.
    """

    of_actor: NDArray[np.bool_]
    counters: Sequence[bytes] | NDArray[np.int64]
    postfixes: Pieces
    starts: NDArray[np.int64]

    def only(self, chosen: NDArray[np.bool_]) -> Bars:
        """Return some of the frames."""
        counters = self.counters
        return Bars(
            of_actor=self.of_actor[chosen],
            counters=counters[chosen] if isinstance(counters, np.ndarray) else list(compress(counters, chosen)),
            postfixes=self.postfixes.at(chosen),
            starts=self.starts[chosen],
        )


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
_LONGEST_BETWEEN: Final = 200
"""Bytes; what that pattern matches is shorter."""
_STRIDE: Final = STRICT.groups + 1
_INTEGERS: Final = re.compile(rb"\d{1,%d}/\d{1,%d}" % (LONGEST_COUNT, LONGEST_COUNT))
_MOST_ODD_FRAC: Final = 1 / 16
"""Of the regular frames; where more are odd, all are found sooner by the pattern."""


def bars_in(batch: Batch, last: bytes = b"") -> Bars | None:
    """Find the frames in a batch, and take them out of it; None where there are none.

    Args:
        batch: the lines.
        last: the postfix of the frame before the batch.
    """
    bars = bars_by_template(batch, last) if SCANNER is not None else None
    return bars if bars is not None else bars_by_pattern(batch, last)


def bars_by_template(batch: Batch, last: bytes) -> Bars | None:
    """Find the regular frames in a batch and, by the pattern, odd ones among them, and take them out of it.

    Returns:
        None where the pattern is to find all: there are no regular frames, many are odd, or one counts no numbers.
    """
    text = batch.text
    places, odd = regular_frames(text, batch.where(LABEL))
    if not len(places.labels) or len(odd) > len(places.labels) * _MOST_ODD_FRAC:
        return None
    matches = [match for place in odd.tolist() if (match := STRICT.match(text, place)) is not None]
    if not all(_INTEGERS.fullmatch(match["counter"]) for match in matches):
        return None
    places = _in_order(places, matches)
    _take_out(batch, places.labels, places.ends, _are_plain(text, places))
    data = np.frombuffer(text, np.uint8)
    torn = data.take(places.postfix_ends, mode="clip") != ord("]")
    postfixes = Pieces(text, places.postfixes, places.postfix_ends)
    if torn.any():
        postfixes = Pieces.of(
            [shown + b"\n" * is_torn for shown, is_torn in zip(postfixes, torn.tolist(), strict=True)]
        )
    new = ~postfixes.repeats()
    new[0] = postfixes[0] != last
    bars = Bars(
        of_actor=data[places.labels - len(b"r ")] == ord("r"),  # and not `Critic `
        counters=np.stack([places.done, places.total], axis=1),
        postfixes=postfixes,
        starts=places.labels,
    )
    return bars.only(new)


def _in_order(places: Places, odd: Sequence[re.Match[bytes]]) -> Places:
    """Put odd frames where they belong; a frame that begins within the one before it is part of that."""
    found = [
        (match.start(), *map(int, match["counter"].split(b"/")), *match.span("postfix"), match.end()) for match in odd
    ]
    if found:
        columns = [np.concatenate(column) for column in zip(places, np.array(found, np.int64).T, strict=True)]
        order = columns[0].argsort(kind="stable")
        places = Places(*(column[order] for column in columns))
    if (places.labels[1:] >= places.ends[:-1]).all():
        return places
    own, behind = [], 0
    for label, end in zip(places.labels.tolist(), places.ends.tolist(), strict=True):
        own.append(label >= behind)
        behind = end if own[-1] else behind
    return Places(*(column[np.array(own)] for column in places))


def bars_by_pattern(batch: Batch, last: bytes) -> Bars | None:
    """Find the frames in a batch by their pattern, and take them out of it; None where there are none."""
    frames = find_frames(batch.text)
    if not frames.texts:
        return None
    lengths = np.fromiter(map(len, frames.texts), np.int64)
    ends = np.cumsum(lengths + np.fromiter(map(len, frames.between), np.int64, len(lengths)))
    between = frames.between[:-1]
    plain = {piece for piece in set(between) if _BETWEEN.fullmatch(piece)}
    _take_out(batch, ends - lengths, ends, np.fromiter(map(plain.__contains__, between), np.bool_))
    postfixes = frames.postfixes
    if b"" in frames.ends:
        postfixes = [postfix + (b"" if end else b"\n") for postfix, end in zip(postfixes, frames.ends, strict=True)]
    bars = Bars(
        of_actor=np.fromiter(map(b"Actor".__eq__, frames.roles), np.bool_),
        counters=frames.counters,
        postfixes=Pieces.of(postfixes),
        starts=ends - lengths,
    )
    return bars.only(np.fromiter(map(ne, postfixes, (last, *postfixes)), np.bool_))


class Frames(NamedTuple):
    """A text in pieces, [M] each: the frames in it, with their repetitions, and their parts.

    Attributes:
        between: what stands before each frame, behind the one before, and behind the last, [M + 1].
        texts: the frames.
        roles: `Actor` or `ritic`: as many bytes as have one length.
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
        parts = pattern.split(text)
        frames = Frames(*(parts[part::_STRIDE] for part in range(_STRIDE)))
        outside = b"".join(frames.between)
        num_repeated = len(frames.texts) - frames.refreshes.count(None)
        if num_newlines == outside.count(b"\n") and num_refreshes == outside.count(b"\r") + num_repeated:
            break
    return frames


def _are_plain(text: bytes, places: Places) -> NDArray[np.bool_]:
    """Tell of what stands before each frame, [M], whether nobody would look for anything in it."""
    plain = np.zeros(len(places.labels), np.bool_)
    between = Pieces(text, np.concatenate([[0], places.ends[:-1]]), places.labels)
    for turn in (0, 1):  # before a frame and before its repetition stands the same as before those of the line before
        pieces = between.at(slice(turn, None, 2))
        if len(pieces):
            new = ~pieces.repeats()
            found = [
                len(piece) <= _LONGEST_BETWEEN and _BETWEEN.fullmatch(piece) is not None for piece in pieces.at(new)
            ]
            plain[turn::2] = np.array(found)[np.cumsum(new) - 1]
    return plain


def _take_out(batch: Batch, starts: NDArray[np.int64], ends: NDArray[np.int64], plain: NDArray[np.bool_]) -> None:
    """Take frames out, and what stands before them where that is plain, [M] each."""
    begun = 0
    for at in np.flatnonzero(~plain).tolist():
        batch.take(begun, int(ends[at - 1]) if at else 0)
        begun = int(starts[at])
    batch.take(begun, int(ends[-1]))
