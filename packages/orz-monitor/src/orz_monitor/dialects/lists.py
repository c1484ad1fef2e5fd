"""Lines that are lists of names with numbers, such as `bleu=3 chrf=4`, and not text about a few numbers."""

from __future__ import annotations

import re
from typing import Final

_PAIR: Final = re.compile(
    rb"(?<![\w/.])(?![A-Z]{2}\W)[A-Za-z_][\w/.@-]{1,80}['\"]?[ \t]?[:=][ \t]?(?:np\.\w{1,12}\()?['\"]?[-+]?\.?\d"
    rb"[\w.%+-]{0,40}"
)
"""A name of two letters or more, but for two capitals, which are a line of geometry."""
_ALONE: Final = re.compile(
    rb"(?:^|[\s\]|)])(?:[A-Za-z_]\w{2,80}=|[A-Za-z]\w{0,40}[_/][\w/]{1,80} ?[:=] ?)[-+]?\.?\d[\w.%+-]{0,40}\s{0,8}$"
)
"""One name with a number at the end of a line: written without a space, or a name that no text has."""
_SHORT_BYTES: Final = 256
_WORD: Final = re.compile(rb"[A-Za-z]{2,}")
_OF_SAMPLES: Final = re.compile(
    rb"(?i)(?<![a-z])(?:answer|expected|predict|extracted|truth|gold|question|problem|prompt|input|output)"
)
"""Words by which a program says what a model was asked, and what it said."""
_MANY_PAIRS: Final = 3
_MOST_WORDS: Final = 2
_LONGEST_BYTES: Final = 1 << 12


def has_pairs(line: bytes) -> bool:
    """Tell cheaply whether a line may be a list: by two names with numbers in its first 4 KiB, or one on a short line.

    Example:
        >>> has_pairs(b"bleu=3 chrf: 4"), has_pairs(b"so x = 3, y = 4"), has_pairs(b"AB=3, BC=4")
        (True, False, False)
    """
    first = _PAIR.search(line, 0, _LONGEST_BYTES)
    if first is None:
        return False
    if _PAIR.search(line, first.end(), _LONGEST_BYTES):
        return True
    return len(line) <= _SHORT_BYTES and _ALONE.search(line) is not None


def is_list(body: bytes, num_marked: int) -> bool:
    """Tell whether a line is one of names with numbers, and not of text about a few of them.

    Two are enough where no more than two words stand beside them, and one where nothing does; three are always. What
    was asked and answered is no list.

    Args:
        body: the line.
        num_marked: how many numbers on it stand behind a name with a colon or an equals sign.

    Example:
        >>> is_list(b"[eval] bleu=3 chrf=4", 2), is_list(b"shard=3 of 7 is on host=4", 2), is_list(b"answer=3 id=4", 2)
        (True, False, False)
    """
    if not num_marked or _OF_SAMPLES.search(body, 0, _LONGEST_BYTES):
        return False
    if num_marked >= _MANY_PAIRS:
        return True
    if num_marked == 1:
        return len(body) <= _SHORT_BYTES and _ALONE.match(body) is not None
    rest, num_pairs = _PAIR.subn(b" ", body[:_LONGEST_BYTES])
    return num_pairs == num_marked and len(_WORD.findall(rest)) <= _MOST_WORDS
