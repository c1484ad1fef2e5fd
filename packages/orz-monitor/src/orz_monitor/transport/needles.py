"""Which of many byte strings can be in a text, in one look at it.

Searching each string on its own reads the text as often as there are strings. A string of seven bytes holds a whole
aligned word of four wherever it stands, so it is enough to look at every fourth place: a word that is none of the
strings' words rules all of them out there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from orz_monitor.transport.places import commonness, rarest

_WORD_BYTES: Final = 4
_SHORTEST: Final = 2 * _WORD_BYTES - 1
_FACTOR: Final = np.uint32(2654435761)
"""Knuth's multiplicative hash; its upper half is the place in the table."""
_TABLE_BITS: Final = 16


class Needles:
    """Byte strings to look for.

    Args:
        needles: the strings; those shorter than seven bytes are ruled out by their rarest byte only.

    Example:
        >>> needles = Needles([b"CUDA error: ", b"Segmentation fault", b"step:"])
        >>> sorted(needles.possible(b"step 5: RuntimeError: CUDA error: an illegal address"))
        [b'CUDA error: ', b'step:']
    """

    def __init__(self, needles: Iterable[bytes]) -> None:
        self._rarest = {needle: bytes(needle[at] for at in rarest(needle)[:1]) for needle in needles}
        self._always: set[bytes] = set()
        self._by_word: dict[int, set[bytes]] = defaultdict(set)
        for needle in self._rarest:
            if len(needle) < _SHORTEST:
                self._always.add(needle)
                continue
            for shift in range(_WORD_BYTES):
                self._by_word[_rarest_word(needle, shift)].add(needle)
        self._table = np.zeros(1 << _TABLE_BITS, dtype=np.bool_)
        self._table[_hashed(np.array(list(self._by_word), dtype=np.uint32))] = True

    def possible(self, text: bytes) -> set[bytes]:
        """Return the strings that may be in a text; the others are not in it."""
        words = np.frombuffer(text, dtype="<u4", count=len(text) // _WORD_BYTES)
        found = words[np.flatnonzero(self._table.take(_hashed(words)))]
        possible = set(self._always)
        for word in set(found.tolist()) & self._by_word.keys():
            possible |= self._by_word[word]
        return {needle for needle in possible if self._rarest[needle] in text}


def _rarest_word(needle: bytes, shift: int) -> int:
    """Return the word of a string, of those that are `shift` from an aligned place, with the rarest letters."""
    words = [needle[at : at + _WORD_BYTES] for at in range(shift, len(needle) - _WORD_BYTES + 1, _WORD_BYTES)]
    return int.from_bytes(min(words, key=lambda word: sum(map(commonness, word))), "little")


def _hashed(words: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Return where words are in the table."""
    return (words * _FACTOR) >> np.uint32(32 - _TABLE_BITS)
