"""The garbage collector rests for a while, and works as before afterwards."""

from __future__ import annotations

import gc

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
