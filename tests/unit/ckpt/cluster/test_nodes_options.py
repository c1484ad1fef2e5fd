"""What a command line may say of other machines."""

from __future__ import annotations

import pytest

from orz_ckpt.cli.nodes import with_ray_value
from orz_ckpt.cli.sizes import parse_bytes
from orz_ckpt.cluster.connect import connected
from orz_ckpt.cluster.hosts_fleet import checked_hosts
from orz_cli.errors import UsageError

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("--ray", "--ray=auto"),
        ("--ray runs/x", "--ray=auto runs/x"),
        ("--ray --json", "--ray=auto --json"),
        ("--ray 10.0.0.1:6379 runs/x", "--ray 10.0.0.1:6379 runs/x"),
        ("--ray 10.0.0.1", "--ray 10.0.0.1"),
        ("--ray [::1]:6379", "--ray [::1]:6379"),
        ("--ray ray://h:1", "--ray ray://h:1"),
        ("--ray=h:1 x", "--ray=h:1 x"),
        ("-- --ray", "-- --ray"),
    ],
)
def test_ray_with_and_without_an_address(given: str, meant: str) -> None:
    """`--ray` takes what follows only if that is an address."""
    assert meant.split() == with_ray_value(given.split())


def test_hosts() -> None:
    """Names, addresses and users are hosts."""
    assert ["gpu-01", "root@10.0.0.2", "a.b.c", "fe80::1"] == checked_hosts("gpu-01, root@10.0.0.2,a.b.c,fe80::1")


@pytest.mark.parametrize(
    "text", ["-oProxyCommand=touch /x", "a,-b", "a b", "a;b", "$(x)", "a,,a", "", ",", "a'b", "root@-x", "a\nb", "@a"]
)
def test_what_is_no_host(text: str) -> None:
    """Nothing that ssh or a shell could take for something else is a host."""
    with pytest.raises(UsageError, match=r"^--hosts: "):
        checked_hosts(text)


def test_no_password_of_a_host_is_printed() -> None:
    """Ssh takes none there; who gives one finds it in no log."""
    with pytest.raises(UsageError, match=r"^--hosts: 'user:\*\*\*@gpu-01' is not") as caught:
        checked_hosts("a,user:SECRET@gpu-01")
    assert "SECRET" not in f"{caught.value.message}{caught.value.remedy}"


def test_ray_and_hosts_exclude_each_other() -> None:
    """One way at a time."""
    with pytest.raises(UsageError, match="exclude each other"), connected(ray="auto", hosts="a"):
        pass


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [
        ("0", 0),
        ("12", 12),
        ("65e9", 65_000_000_000),
        ("65GB", 65_000_000_000),
        ("1.5 GiB", 1_610_612_736),
        ("0.123456789e9b", 123_456_789),
        ("2k", 2000),
        ("7B", 7),
    ],
)
def test_sizes(text: str, nbytes: int) -> None:
    """Units with an i are powers of 1024, others of 1000."""
    assert nbytes == parse_bytes(text, "--bytes")


@pytest.mark.parametrize("text", ["", "-1", "GB", "1XB", "nan", "1e99", "0x10", "1 2", "9999999P", "\u0661"])
def test_no_sizes(text: str) -> None:
    """Anything else is an error that shows how to write one."""
    with pytest.raises(UsageError, match="is not a number of bytes"):
        parse_bytes(text, "--bytes")
