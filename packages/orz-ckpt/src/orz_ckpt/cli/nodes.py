"""The options with which a command asks other machines."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Final

import typer

from orz_ckpt.cli.command import CkptCommand
from orz_cli.errors import UsageError

if TYPE_CHECKING:
    from typer._click.core import Context

_ADDRESS: Final = re.compile(r"auto|[A-Za-z0-9.-]+:\d{1,5}|\[[0-9A-Fa-f:.]+\]:\d{1,5}|\d{1,3}(\.\d{1,3}){3}|\w+://.*")

RayOption = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="[ADDRESS]",
        help="Ask every node of a Ray cluster: HOST:PORT of its head node; without it, that of this machine.",
        show_default=False,
    ),
]
HostsOption = Annotated[
    str | None,
    typer.Option("--hosts", metavar="A,B", help="Ask this machine, and these hosts over ssh.", show_default=False),
]
SecondsOption = Annotated[float, typer.Option("--seconds", help="How long each node may search.")]
SEARCH_S: Final = 20.0
_MAX_SEARCH_S: Final = 3600.0


class NodesCommand(CkptCommand):
    """A command whose `--ray` may stand without a value."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """Let `--ray` mean `--ray=auto` where what follows is no address."""
        return super().parse_args(ctx, with_ray_value(args))


def search_time(seconds: float) -> float:
    """Return how long each node may search.

    Raises:
        UsageError: it is not more than 0, or more than an hour.
    """
    if not 0 < seconds <= _MAX_SEARCH_S:
        raise UsageError(f"--seconds {seconds:g}: expected more than 0, at most 3600", remedy="--seconds 120")
    return seconds


def with_ray_value(args: list[str]) -> list[str]:
    """Return `args` with `--ray=auto` for a `--ray` that no address follows."""
    end = args.index("--") if "--" in args else len(args)
    return [
        "--ray=auto"
        if word == "--ray" and index < end and not (index + 1 < end and _ADDRESS.fullmatch(args[index + 1]))
        else word
        for index, word in enumerate(args)
    ]
