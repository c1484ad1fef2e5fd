"""The garbage collector rests for a while and works as before afterwards, or rests at the end of a process."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref

import pytest

from orz_cli.garbage import few_collections

pytestmark = pytest.mark.unit

ENDS = """
import atexit, sys
from orz_cli.garbage import no_collection_at_exit

class Held:
    def __del__(self):
        print("collected", flush=True)

atexit.register(print, "registered", flush=True)
held = Held()
held.itself = held
for _ in range(int(sys.argv[1])):
    no_collection_at_exit()
if len(sys.argv) > 2:
    sys.modules[sys.argv[2]] = object()
"""


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


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["0"], ["registered", "collected"]),
        (["1"], ["registered"]),
        (["2"], ["registered"]),
        (["1", "torch"], ["registered", "collected"]),
    ],
)
def test_nothing_is_collected_at_exit(arguments: list[str], expected: list[str]) -> None:
    """What holds itself is left to the system, and what is registered is done; beside torch all is as ever."""
    ended = subprocess.run([sys.executable, "-c", ENDS, *arguments], capture_output=True, text=True, check=True)

    assert expected == ended.stdout.splitlines()
