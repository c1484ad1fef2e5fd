r"""Frames of Open-Reasoner-Zero's bars that look as tqdm writes them, all of a batch at once.

A few bytes give a frame its form: the breaks around it, and the two strokes of its bar. They are looked up in the whole
batch; where they follow each other as in a frame, what stands between them is checked for all frames together. Frames
without a postfix or without an end, and those with something before or behind them on their refresh, are not found:
they are left to the pattern in `orz_bars`, which every frame that is found here matches.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from orz_monitor.transport.batch import Batch
from orz_monitor.transport.pieces import are, pieces

LABEL: Final = b"Train epoch ["
_ACTOR: Final = b"Actor "
_CRITIC: Final = b"Critic "
_MARKS: Final = b"\r\n|"
_MOST_COUNTER, _MOST_TIMED, _MOST_DESCRIBED, _MOST_BAR, _MOST_POSTFIX = 15, 40, 100, 1000, 4000
"""Bytes of a counter, of the clock or the rate, between label and bar, of the bar and of the postfix; the pattern
allows longer counters, but nothing else to be longer."""
_REACH: Final = len(b"|  [") + _MOST_COUNTER + 2 * (_MOST_TIMED + len(b", "))
"""Bytes from the end of the bar in which the postfix begins, and which are looked at though a frame may be shorter."""


class Places(NamedTuple):
    """Frames in their order: where their parts stand in the text, [M] each.

    Attributes:
        labels: where `Train epoch [` begins.
        counters: where `17/18` begins.
        counter_ends: behind it.
        postfixes: where `pg=0.033, kl=0.0827` begins.
        postfix_ends: behind it.
        ends: behind the frame, and its repetition if that belongs to it.
    """

    labels: NDArray[np.int64]
    counters: NDArray[np.int64]
    counter_ends: NDArray[np.int64]
    postfixes: NDArray[np.int64]
    postfix_ends: NDArray[np.int64]
    ends: NDArray[np.int64]


def regular_frames(batch: Batch) -> Places:
    r"""Find the frames that fill a refresh or a line, and have a postfix and an end.

    Whether a postfix holds a bracket before the one at its end is left to who reads it.

    Example:
        >>> frame = b"\rActor Train epoch [1/1]:  50%|##  | 1/2 [00:10<00:10, 10.00s/it, pg=0.5]\n"
        >>> found = regular_frames(Batch(frame))
        >>> frame[found.counters[0] : found.counter_ends[0]], frame[found.postfixes[0] : found.postfix_ends[0]]
        (b'1/2', b'pg=0.5')
    """
    text = batch.text + bytes(_REACH)
    data = np.frombuffer(text, np.uint8)
    begins, bars, bar_ends, postfix_ends = _formed(batch)
    of_actor = are(text, _ACTOR + LABEL, begins)
    labels = begins + np.where(of_actor, len(_ACTOR), len(_CRITIC))
    fits = of_actor | are(text, _CRITIC + LABEL, begins)
    counters = bar_ends + len(b"| ")
    counter_ends = counters + _next(text, b" ", counters, _MOST_COUNTER)
    clocks = counter_ends + len(b" [")
    clock_ends = clocks + _next(text, b",", clocks, _MOST_TIMED)
    rates = clock_ends + len(b", ")
    rate_ends = rates + _next(text, b",", rates, _MOST_TIMED)
    postfixes = rate_ends + len(b", ")
    fits &= (data[counters - 1] == ord(" ")) & (data[clocks - 1] == ord("[")) & (data[rates - 1] == ord(" "))
    fits &= are(text, b"it, ", rate_ends - 2) | are(text, b"/s, ", rate_ends - 2)
    fits &= (counters < counter_ends) & (clocks < clock_ends) & (rates < rate_ends) & (postfixes <= postfix_ends)
    fits &= (bars - labels <= len(LABEL) + _MOST_DESCRIBED) & (bar_ends - bars <= len(b"|") + _MOST_BAR)
    fits &= postfix_ends - postfixes <= _MOST_POSTFIX
    found = (labels, counters, counter_ends, postfixes, postfix_ends, postfix_ends + 1)
    return Places(*(found if fits.all() else (column[fits] for column in found)))


def _formed(batch: Batch) -> tuple[NDArray[np.int64], ...]:
    """Return where what has the form of a frame begins, where its two strokes stand, and its last bracket, [M] each."""
    text = np.frombuffer(batch.text, np.uint8)
    marks = np.concatenate([[-1], batch.places_of(_MARKS)])  # as if a newline stood before the text
    strokes = text[marks] == ord("|")
    strokes[0] = False
    at = np.flatnonzero(~strokes[:-3] & strokes[1:-2] & strokes[2:-1] & ~strokes[3:])
    before, bars, bar_ends, behind = (marks[at + shift] for shift in range(4))
    right = (bars - before > len(_CRITIC + LABEL)) & (text[behind - 1] == ord("]"))
    found = (before + 1, bars, bar_ends, behind - 1)
    return found if right.all() else tuple(column[right] for column in found)


def _next(text: bytes, byte: bytes, places: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Return how many bytes from places on, [M], a byte stands next; 0 also where there is none in `most` bytes."""
    windows = pieces(text, most + 1)[places].view(np.uint8).reshape(-1, most + 1)
    return np.asarray((windows == ord(byte)).argmax(axis=1))


def counts(text: bytes, begins: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Read counters between places, [M]: what is done and of how many, [M, 2]; None where one is not like `17/18`.

    Example:
        >>> counts(b"17/18 [00:10<0, 0/2 [0:06, 1.5it/s", np.array([0, 16]), np.array([5, 19])).tolist()
        [[17, 18], [0, 2]]
    """
    if not len(begins) or int(begins.max()) + _MOST_COUNTER >= len(text) or int((ends - begins).max()) > _MOST_COUNTER:
        return None
    slashes = begins + _next(text, b"/", begins, _MOST_COUNTER)
    done, of = _whole_numbers(text, begins, slashes), _whole_numbers(text, slashes + 1, ends)
    return np.stack([done, of], axis=1) if done is not None and of is not None else None


def _whole_numbers(text: bytes, begins: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Read the numbers between places, [M]; None where one is empty or has anything else than digits."""
    data, lengths = np.frombuffer(text, np.uint8), ends - begins
    if int(lengths.min()) < 1:
        return None
    numbers = np.zeros(len(begins), np.int64)
    for shift in range(int(lengths.max())):
        inside = lengths > shift
        digit = data[np.minimum(begins + shift, ends - 1)] - np.uint8(ord("0"))  # beyond 9 for anything else
        if int(digit.max()) > 9:  # noqa: PLR2004 - the largest digit
            return None
        numbers = np.where(inside, numbers * 10 + digit, numbers)
    return numbers
