"""How often Python looks for objects that only hold each other."""

from __future__ import annotations

import atexit
import gc
import sys
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


def no_collection_at_exit() -> None:
    """Let this process end without going through all that it holds: the system takes its memory back at once.

    What is registered with `atexit` is done as ever. Not for what relies on finalizers at the end of the process, and
    not done where torch is: libraries that it loads count at the end what was not given back, and complain.
    """
    atexit.unregister(_leave_all)
    atexit.register(_leave_all)


def _leave_all() -> None:
    if "torch" not in sys.modules:
        gc.freeze()
