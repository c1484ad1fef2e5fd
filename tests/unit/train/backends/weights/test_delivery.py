"""Which parameters have arrived."""

from __future__ import annotations

import pytest

from orz_train.backends.weights.bucket import ParamMeta
from orz_train.backends.weights.delivery import Delivery
from orz_train.errors import WeightTransferError

pytestmark = pytest.mark.unit

SHAPES = dict.fromkeys("abcde", (2, 3))


def meta(name: str, shape: tuple[int, ...] = (2, 3)) -> ParamMeta:
    return ParamMeta(name, "float32", shape)


def test_a_whole_delivery_passes() -> None:
    """In any order and any portions."""
    delivery = Delivery(SHAPES)
    delivery.accept([meta("c"), meta("a")])
    delivery.accept([])
    delivery.accept(meta(name) for name in "edb")
    delivery.require_complete()


def test_what_is_missing_is_named() -> None:
    """Up to three, in the model's order, and how many more."""
    delivery = Delivery(SHAPES)
    with pytest.raises(WeightTransferError, match="without 5 of 5 parameters: a, b, c and 2 more"):
        delivery.require_complete()
    delivery.accept([meta(name) for name in "abde"])
    with pytest.raises(WeightTransferError, match="without 1 of 5 parameters: c\n"):
        delivery.require_complete()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (meta("f"), "f: the engine's model has no such parameter"),
        (meta("a", (3, 2)), r"a: expected shape \[2, 3\], got \[3, 2\]"),
        (meta("b"), "b: arrived twice"),
        (meta("c"), "c: arrived twice"),
    ],
)
def test_a_wrong_portion_counts_for_nothing(wrong: ParamMeta, message: str) -> None:
    """Unknown, misshapen, or come already, in this portion or before: none of the portion is ticked off."""
    delivery = Delivery(SHAPES)
    delivery.accept([meta("c")])
    with pytest.raises(WeightTransferError, match=message):
        delivery.accept([meta("b"), wrong])
    delivery.accept([meta(name) for name in "abde"])
    delivery.require_complete()
