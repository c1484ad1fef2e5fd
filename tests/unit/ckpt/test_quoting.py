"""What somebody else wrote, quoted in a message."""

from __future__ import annotations

import pytest

from orz_ckpt.quoting import brief

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "nothing"),
        ("model.norm.weight", "'model.norm.weight'"),
        ("\x1b[2Jgone\n", r"'\x1b[2Jgone\n'"),
        ("größe", r"'gr\xf6\xdfe'"),
        (7, "7"),
        ("a" * 58, f"'{'a' * 58}'"),
        ("a" * 59, f"'{'a' * 56}..."),
    ],
)
def test_brief(value: object, expected: str) -> None:
    """ASCII without control characters, at most 60 of them, the last three dots where something was cut."""
    assert expected == brief(value)
    assert len(expected) <= 60
