"""The garbage collector rests for a while and works as before afterwards."""

from __future__ import annotations

import gc
import weakref

import pytest

from orz_cli.garbage import few_collections

pytestmark = pytest.mark.unit


def test_collections_are_few_inside_alone() -> None:
    """Also where what was done inside ended with an error."""
    usual, inside = gc.get_threshold(), []

    def fail() -> None:
        inside.append(gc.get_threshold())
        raise ValueError("ended")

    with pytest.raises(ValueError, match="ended"), few_collections():
        fail()

    assert usual == gc.get_threshold()
    assert inside[0][0] > 100 * usual[0]


def test_what_was_made_inside_is_gone_through_with_everything_alone() -> None:
    """Objects that hold each other are collected, by the next collection of all, and not as soon as the block ends."""

    class Held:
        pass

    with few_collections():
        kept: list[Held] = [Held() for _ in range(10_000)]
        lost = Held()
        lost.itself = lost  # type: ignore[attr-defined]
        gone = weakref.ref(lost)
        del lost
    gc.collect(1)  # all but the oldest

    assert gone() is not None
    gc.collect()
    assert (None, 10_000) == (gone(), len(kept))
