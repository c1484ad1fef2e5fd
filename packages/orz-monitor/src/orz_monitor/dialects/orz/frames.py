r"""Frames of Open-Reasoner-Zero's bars that look as tqdm writes them, all of a batch at once.

What looks otherwise, such as a frame without an end, is left to the pattern in `bars`, which every frame that is
found here matches.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from orz_monitor.transport.places import are
from orz_monitor.transport.template import COUNT, Template, Until

LABEL: Final = b"Train epoch ["
_ROLES: Final = (b"Actor ", b"ritic ")
"""As many bytes; OpenRLHF's bars have neither word."""
_FRAME: Final = Template(
    [
        *(LABEL, Until(b"|", 100), b"|", Until(b"|", 1000), b"| "),
        *(COUNT, b"/", COUNT, b" [", Until(b",", 40), b", ", Until(b",", 40), b", ", Until(b"]", 4000), b"]"),
    ]
)
"""What is described, the bar, both counters, the clocks, the rate, and the postfix."""
_RATE, _POSTFIX = 3, 4


class Places(NamedTuple):
    """Frames in their order: where their parts stand in the text, [M] each.

    Attributes:
        labels: where `Train epoch [` begins.
        done: the number of `17/18` before the stroke.
        total: the number behind it.
        postfixes: where `pg=0.033, kl=0.0827` begins.
        postfix_ends: behind it.
        ends: behind the frame, and its repetition if that belongs to it.
    """

    labels: NDArray[np.int64]
    done: NDArray[np.int64]
    total: NDArray[np.int64]
    postfixes: NDArray[np.int64]
    postfix_ends: NDArray[np.int64]
    ends: NDArray[np.int64]


def regular_frames(text: bytes, labels: NDArray[np.int64]) -> tuple[Places, NDArray[np.int64]]:
    r"""Find the frames that have a postfix and an end.

    Args:
        text: holds them.
        labels: where `LABEL` stands, [M].

    Returns:
        The frames, and those of the labels behind which stands something else.

    Example:
        >>> frame = b"Actor Train epoch [1/1]:  50%|##  | 1/2 [00:10<00:10, 10.00s/it, pg=0.5]\nTrain epoch [?"
        >>> found, odd = regular_frames(frame, np.array([6, 73]))
        >>> frame[found.postfixes[0] : found.postfix_ends[0]], found.done.tolist(), found.total.tolist(), odd.tolist()
        (b'pg=0.5', [1], [2], [73])
    """
    ends, counters, spans = _FRAME.read(text, labels)
    fits = ends >= 0
    fits[fits] = _are_right(text, labels[fits], spans[fits, _RATE, 1])
    chosen = slice(None) if fits.all() else fits
    done, total = counters[chosen].astype(np.int64).T
    postfixes, postfix_ends = spans[chosen, _POSTFIX].T
    return Places(labels[chosen], done, total, postfixes, postfix_ends, ends[chosen]), labels[~fits]


def _are_right(text: bytes, labels: NDArray[np.int64], rate_ends: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell of which frames, [M], the role is known, and the rate is one."""
    right = are(text, b"it", rate_ends - len(b"it")) | are(text, b"/s", rate_ends - len(b"/s"))
    roles = np.maximum(labels - len(_ROLES[0]), 0)
    right &= are(text, _ROLES[0], roles) | are(text, _ROLES[1], roles)
    return right & (labels >= len(_ROLES[0]))
