"""`orz ckpt inspect`."""
# ruff: noqa: PLC0415  `orz --help` loads this module, and must be back at once

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orz_ckpt.cli.options import (
    FailOn,
    FailOnOption,
    Format,
    FormatOption,
    InertOption,
    TagOption,
    allowed,
    chosen_format,
)
from orz_ckpt.cli.output import write_judged
from orz_ckpt.urls import path_here
from orz_cli.findings import Severity


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
    output: FormatOption = Format.TEXT,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON, with every tensor.")] = False,
    fail_on: FailOnOption = FailOn.ERROR,
) -> None:
    """Show what weights are at a path: format, writer, step, ranks, tensors, types, sizes, roles, remote code.

    No weight is read and no pickle loaded. What is wrong with the layout is listed, with exit 1.
    """
    from orz_ckpt.cluster.terminal import wide_console
    from orz_ckpt.inspection import inspect as look
    from orz_ckpt.report.inspection import inspection_tables
    from orz_ckpt.report.judged import Verdict

    chosen = chosen_format(output, as_json=as_json)
    found = look(path, tag=tag, inert=allowed(inert))
    severity = Severity(fail_on.value)
    write_judged(
        Verdict(command="inspect", kind=found.kind, path=str(found.path), findings=found.findings),
        chosen,
        severity,
        document=found.to_json,
        text=lambda _: wide_console().print(inspection_tables(found, all_tensors=tensors)),
    )
    raise typer.Exit(found.status(severity).exit_code)
