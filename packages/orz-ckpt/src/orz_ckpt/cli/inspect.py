"""`orz ckpt inspect`."""
# ruff: noqa: PLC0415  `orz --help` loads this module, and must be back at once

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from orz_ckpt.cli.options import InertOption, TagOption
from orz_ckpt.urls import path_here


def inspect(
    path: Annotated[
        Path,
        typer.Argument(
            parser=path_here,
            metavar="PATH",
            help="A run, a step folder, or a folder or file of weights.",
            show_default=False,
        ),
    ],
    tag: TagOption = "",
    inert: InertOption = None,
    *,
    tensors: Annotated[bool, typer.Option("--tensors", help="List every tensor.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON, with every tensor.")] = False,
) -> None:
    """Show what weights are at a path: format, writer, step, ranks, tensors, types, sizes, roles, remote code.

    No weight is read and no pickle loaded. What is wrong with the layout is listed, with exit 1.
    """
    from rich.console import Console

    from orz_ckpt.inspection import inspect as look
    from orz_ckpt.report.inspection import inspection_tables

    found = look(path, tag=tag, inert=frozenset(inert or ()))
    if as_json:
        sys.stdout.write(json.dumps(found.to_json(), indent=2) + "\n")
    else:
        console = Console(highlight=False)
        if not console.is_terminal:
            console = Console(highlight=False, width=160)
        console.print(inspection_tables(found, all_tensors=tensors))
    raise typer.Exit(found.status().exit_code)
