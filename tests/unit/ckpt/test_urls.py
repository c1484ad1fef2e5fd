"""What a URL shows of itself, and what it names."""

from __future__ import annotations

import pytest

from orz_ckpt.urls import local_path, redacted, user_in
from orz_cli.errors import UsageError

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("url", "user", "shown"),
    [
        ("s3://bucket/runs", "", "s3://bucket/runs"),
        ("s3://key:secret@bucket/runs", "key:secret", "s3://***@bucket/runs"),
        ("s3://key:sec/ret@bucket/runs", "key:sec/ret", "s3://***@bucket/runs"),
        ("s3://key:sec@ret@bucket/runs", "key:sec@ret", "s3://***@bucket/runs"),
        ("s3://key:sec?ret@bucket/runs#x", "key:sec?ret", "s3://***@bucket/runs?***"),
        ("s3://token@bucket/a@b", "token", "s3://***@bucket/a@b"),
        ("s3://bucket/a@b", "", "s3://bucket/a@b"),
        ("file:///mnt/a:b/c@d", "", "file:///mnt/a:b/c@d"),
        ("HTTPS://host:80/x?sig=secret", "", "https://host:80/x?***"),
        ("s3://[half/x", "", "s3://[half/x"),
    ],
)
def test_no_secret_is_shown(url: str, user: str, shown: str) -> None:
    """A key with a `/` or an `@` in it, neither; what comes after a host may look like one."""
    assert (user, shown) == (user_in(url), redacted(url))


def test_half_an_address_in_brackets_is_an_error() -> None:
    """Python's own parser raises a ValueError there."""
    with pytest.raises(UsageError, match=r"s3://\[half/x: not a URL"):
        local_path("s3://[half/x")
