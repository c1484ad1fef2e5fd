"""`orz monitor compare`: runs side by side."""

# ruff: noqa: PLC0415  commands import what they need, so that `orz --help` loads no numpy
from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orz_cli.errors import UsageError
from orz_monitor.addresses import located
from orz_monitor.cli.options import DialectOption, dialects_with
from orz_monitor.compare.axis import Axis

_FEWEST = 2


def compare(
    paths: Annotated[
        list[Path],
        typer.Argument(
            parser=located,
            metavar="A B...",
            help="Run folders, or what other tools keep of runs; the others are compared with A.",
            show_default=False,
        ),
    ],
    axis: Annotated[Axis, typer.Option("--by", help="What the runs are aligned by.")] = Axis.STEP,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Write an HTML page with charts, too; to standard output, which is -, the page alone.",
            show_default=False,
        ),
    ] = None,
    *,
    raw: Annotated[bool, typer.Option("--raw", help="Compare keys and values as they were logged.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="List every metric, not only what differs.")] = False,
    dialect: DialectOption = "",
) -> None:
    """Compare runs where they have come equally far: by step, by tokens trained on, or by time.

    Time is that of the records, or where they have none what the trainer says that its steps took.

    Differences are told in units of the runs' own step-to-step noise, so 3 sigma of a noisy metric is as much as
    3 sigma of a quiet one. One run of each kind tells nothing about other seeds.
    """
    if len(paths) < _FEWEST:
        raise UsageError("compare needs two runs or more, got one", remedy="orz monitor compare A B")
    from orz_monitor.publishing import is_standard_output, publish, refuse_inputs

    if output is not None:
        refuse_inputs(output, paths)
    alone = output is not None and is_standard_output(output)
    if output is not None and not alone and output.suffix.lower() not in {".html", ".htm"}:
        raise UsageError(f"{output}: a comparison is written as .html", remedy="give --output such a name")
    from orz_cli.output import OutputConsole
    from orz_monitor.compare.alignment import compare as aligned
    from orz_monitor.compare.page import as_page
    from orz_monitor.compare.text import print_comparison
    from orz_monitor.table import read_table

    dialects = dialects_with(dialect)
    comparison = aligned([read_table(path, raw=raw, dialects=dialects) for path in paths], axis)
    if output is not None:  # before anything is printed: whoever reads that may stop reading
        page = as_page(comparison)
        publish(output, lambda path: _write(path, page))
    if not alone:
        print_comparison(OutputConsole(highlight=False), comparison, everything=everything)
        if output is not None:
            typer.echo(output)


def _write(path: Path, page: str) -> None:
    """Write the page."""
    path.write_text(page, encoding="utf-8", newline="\n")
