"""What is said of a precision before it costs hours."""

from __future__ import annotations

import pytest

from orz_train.backends import precision

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("dtype", "device", "supported", "said"),
    [
        ("bfloat16", "cpu", False, True),
        ("bfloat16", "cpu", True, False),
        ("bfloat16", "cuda", False, False),
        ("float32", "cpu", False, False),
    ],
)
def test_a_cpu_without_bfloat16_is_told_of(
    monkeypatch: pytest.MonkeyPatch, dtype: str, device: str, said: bool, supported: bool
) -> None:
    """Only where bfloat16 is computed on a CPU that lacks it, and with the setting to use instead."""
    monkeypatch.setattr(precision, "_has_bfloat16", lambda: supported)
    assert said is ("policy.dtype=float32" in precision.precision_note(dtype, device))


def test_torch_answers() -> None:
    """The question that torch asks itself has an answer on this machine, too."""
    assert precision._has_bfloat16() in {True, False}
