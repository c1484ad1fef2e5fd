"""`orz ckpt diff`."""
# ruff: noqa: PLC0415  `orz --help` loads this module, and must be back at once

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from orz_ckpt.cli.options import InertOption, allowed
from orz_ckpt.urls import path_here
from orz_cli.errors import UsageError
from orz_cli.exits import ExitCode

_SUFFIX = ".svg"


def diff(
    a: Annotated[
        Path, typer.Argument(parser=path_here, metavar="A", help="A checkpoint of any format.", show_default=False)
    ],
    b: Annotated[
        Path,
        typer.Argument(parser=path_here, metavar="B", help="Another one; norms are relative to A.", show_default=False),
    ],
    plot: Annotated[
        Path | None,
        typer.Option(
            parser=path_here, metavar="FILE.svg", help="Draw the change of each part of each layer.", show_default=False
        ),
    ] = None,
    inert: InertOption = None,
    *,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit 1 if they differ.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON, with every tensor.")] = False,
) -> None:
    """Compare two checkpoints tensor by tensor: equal bits, changed share, relative norm, largest change.

    Formats may differ. Of two floating-point types the wider is cast to the narrower first, so a checkpoint and its
    16-bit copy are equal. Exit 0 whether or not they differ, unless --exit-code is given; 3 if they cannot be compared.
    """
    from rich.console import Console

    from orz_ckpt.cli.progress import shown_progress
    from orz_ckpt.diff.plot import heat_map
    from orz_ckpt.diff.run import diff as compare
    from orz_ckpt.diff.text import diff_tables
    from orz_ckpt.errors import FormatError, NotComparableError
    from orz_ckpt.sources import open_source

    if plot is not None and plot.suffix != _SUFFIX:
        raise UsageError(
            f"--plot {plot.name}: only SVG is drawn",
            remedy=f"give {plot.with_suffix(_SUFFIX)}; browsers turn SVG into PNG",
        )
    try:
        sources = [open_source(path, inert=allowed(inert)) for path in (a, b)]
    except FormatError as error:
        raise NotComparableError(error.message, remedy=error.remedy) from error
    with shown_progress("comparing") as progress:
        found = compare(*sources, progress=progress)
    if plot is not None:
        plot.write_text(heat_map(found), encoding="utf-8")
    if as_json:
        sys.stdout.write(json.dumps(found.to_json(), indent=2) + "\n")
    else:
        console = Console(highlight=False)
        if not console.is_terminal:
            console = Console(highlight=False, width=160)
        console.print(diff_tables(found))
    raise typer.Exit(ExitCode.FAILED if exit_code and not found.same else ExitCode.OK)
