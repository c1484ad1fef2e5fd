"""How often Python looks for objects that only hold each other."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_MANY: Final = 100_000


@contextmanager
def few_collections() -> Iterator[None]:
    """Collect garbage after 100,000 new objects instead of 700, for what makes many objects that stay.

    Importing modules is such, and reading pickles. Not for what may hold tensors. What was made counts as old at the
    end: the next collection of everything goes through it, and none does before.
    """
    usual = gc.get_threshold()
    gc.set_threshold(_MANY)
    try:
        yield
    finally:
        gc.freeze()
        gc.unfreeze()  # into the oldest generation: the next new object would have all of it gone through
        gc.set_threshold(*usual)
