"""Which values of a pickle may be keys, and how many of each kind.

A dictionary is fast while the hashes of its keys are spread. Those of texts and bytes are salted by Python, and that of
a `Block` by way of a text, so no file can make them collide. Those of numbers and of tuples are plain arithmetic: with
chosen ones each new key is compared with all before, which for a few megabytes of pickle takes hours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from orz_ckpt.formats.inert import BadPickleError, Global, Inert, is_short
from orz_ckpt.tensors.source import Block

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orz_ckpt.formats.inert import Limits

_PARTS: Final = 64


class Keys:
    """Counts the keys of one pickle whose hashes a file can choose.

    Numbers that count up, as those of an optimizer's parameters, are free: a table has more places than keys, and a
    number below their count has a place of its own.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._composite = 0
        self._numbers = 0

    def check(self, key: object, held: int) -> None:
        """Check and count a key that is put beside `held` others.

        Raises:
            BadPickleError: it is of a type that no checkpoint uses as a key, too large, or one too many of its kind.
        """
        if isinstance(key, str) or (isinstance(key, int) and 0 <= key <= held):
            return  # nearly all of them are such
        _check_parts(key)
        if isinstance(key, tuple):
            self._composite += 1
            if self._composite > self._limits.composite_keys:
                raise BadPickleError(f"it has more than {self._limits.composite_keys:,} tuples as keys")
        elif isinstance(key, (int, float)):
            self._numbers += 1
            if self._numbers > self._limits.number_keys:
                raise BadPickleError(f"it has more than {self._limits.number_keys:,} numbers as keys out of order")

    def check_all(self, keys: Iterable[object]) -> None:
        """Check and count the keys of a collection, from the first on."""
        for held, key in enumerate(keys):
            self.check(key, held)


def _check_parts(key: object) -> None:
    """Check that `key` can be hashed and compared at little cost."""
    parts, count = [key], 0
    while parts:
        part, count = parts.pop(), count + 1
        if isinstance(part, tuple):
            parts += part[:_PARTS]
        if (
            count > _PARTS
            or (isinstance(part, tuple) and len(part) > _PARTS)
            or not isinstance(part, (str, bytes, int, float, tuple, Global, Inert, Block, type(None)))
            # In tuples, whose hashes can be made to collide, tensors would be compared field by field.
            or (isinstance(part, Block) and part is not key)
            or (isinstance(part, int) and not is_short(part))
        ):
            raise BadPickleError(f"a key of type {type(part).__name__} is too large or cannot be one")
