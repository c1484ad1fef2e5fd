"""Python dictionaries as logs print them: `{'loss': 0.1, 'np': np.float64(0.2), 'quoted': '0.3', 'at': {'x': nan}}`.

`ast.literal_eval` fails on half of these; this reads what is there and leaves out what can't be read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_DEEPEST: Final = 8
"""Keys within keys; deeper is no metric."""
_GLUED: Final = b"]{"
"""A bar's end, and the dictionary glued to it; no dictionary holds this."""
_ITEM: Final = re.compile(
    rb"['\"](?P<key>[^'\"\\\n]{1,200})['\"]: ?"
    rb"(?P<value>"
    rb"\{"  # a dictionary within
    rb"|'[^'\n]{0,400}'|\"[^\"\n]{0,400}\""  # a text, or a number in quotes
    rb"|[A-Za-z_.]{1,20}\d{0,2}\((?:[^()\n]|\([^()\n]{0,100}\)){0,200}\)"  # np.float64(..), tensor(..)
    rb"|\[[^\[\]\n]{0,2000}\]"  # a list
    rb"|[^,{}\[\]\n]{1,100}"  # a bare value
    rb")"
    rb"|(?P<close>\})"
)


def dict_pairs(body: bytes, start: int = 0) -> list[tuple[bytes, bytes]]:
    r"""Return key and printed value of the dictionary that begins at `start`; keys within keys are joined by `/`.

    Example:
        >>> dict_pairs(b"{'loss': '-0.0074', 'eval': {'acc': np.float64(0.5)}, 'lr': 1e-06}")
        [(b'loss', b"'-0.0074'"), (b'eval/acc', b'np.float64(0.5)'), (b'lr', b'1e-06')]
    """
    return dict_and_end(body, start)[0]


def dict_and_end(body: bytes, start: int = 0) -> tuple[list[tuple[bytes, bytes]], int]:
    r"""Return key and printed value of a dictionary, as `dict_pairs`, and where it ends: behind its last brace.

    Without that brace it goes on to the end of `body`.

    Example:
        >>> dict_and_end(b"{'loss': 1, 'of': {}} {'lr': 2}")
        ([(b'loss', b'1')], 21)
    """
    pairs: list[tuple[bytes, bytes]] = []
    outer: list[bytes] = []
    depth = 0
    for match in _ITEM.finditer(body, start + 1):
        if match["close"] is not None:
            if depth == 0:
                return pairs, match.end()
            if depth <= _DEEPEST:
                outer.pop()
            depth -= 1
        elif match["value"] == b"{":
            depth += 1
            if depth <= _DEEPEST:
                outer.append(match["key"])
        else:
            pairs.append((b"/".join([*outer, match["key"]]), match["value"].strip()))
    return pairs, len(body)


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """One of the dictionaries of a line.

    Attributes:
        start: where it begins.
        end: where it ends.
        pairs: key and printed value of each item.
    """

    start: int
    end: int
    pairs: list[tuple[bytes, bytes]]


def dicts_of(body: bytes, begin: re.Pattern[bytes]) -> Iterator[Found]:
    r"""Yield the dictionaries of a line that lie side by side, where several records were glued together.

    One without a last brace ends where a bar ends that the next one is glued to.

    Args:
        body: the line.
        begin: what the dictionaries begin with.

    Example:
        >>> begin = re.compile(rb"\{'")
        >>> [found.pairs for found in dicts_of(b"{'a': 1} 2/9 [00:01<00:02]{'a': 2}", begin)]
        [[(b'a', b'1')], [(b'a', b'2')]]
    """
    end = 0
    while (match := begin.search(body, end)) is not None:
        start = match.start()
        glued = body.find(_GLUED, start)
        pairs, end = dict_and_end(body[: glued + 1] if glued >= 0 else body, start)
        yield Found(start=start, end=end, pairs=pairs)


def is_closed(body: bytes) -> bool:
    """Tell whether a dictionary's last brace is there."""
    return body.count(b"}") >= body.count(b"{") > 0
