"""`orz monitor export`: a run's values for other tools."""

# ruff: noqa: PLC0415  commands import what they need, so that `orz --help` loads no numpy
from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orz_monitor.addresses import located
from orz_monitor.cli.options import DialectOption, dialects_with
from orz_monitor.export.form import Form


def export(
    path: Annotated[
        Path,
        typer.Argument(
            parser=located,
            metavar="PATH",
            help="A run folder, or what TensorBoard, W&B, MLflow or trackio keep, or a CSV or JSON lines file; "
            "PATH#RUN names one of several runs.",
            show_default=False,
        ),
    ],
    form: Annotated[Form, typer.Option("--to", help="The format.", show_default=False)],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="The file to write, - for standard output; for tensorboard, a folder of its own.",
            show_default=False,
        ),
    ],
    *,
    raw: Annotated[
        bool, typer.Option("--raw", help="Keep the keys and values of the log or store as they are.")
    ] = False,
    dialect: DialectOption = "",
) -> None:
    """Write all values of a run as a table: a row a step, a column a metric.

    Metrics have our names and units, whoever logged them, unless `--raw` keeps theirs.
    Parquet, CSV and JSON lines keep every digit; TensorBoard's event files hold numbers of 32 bits. What was not
    logged at a step is empty there, not NaN. The path of what was written goes to stdout.
    """
    from orz_cli.console import show_warning
    from orz_monitor.export.writing import export as write
    from orz_monitor.printable import printable
    from orz_monitor.publishing import is_standard_output, refuse_inputs
    from orz_monitor.table import not_read, read_table

    refuse_inputs(output, [path])
    table = read_table(path, raw=raw, dialects=dialects_with(dialect))
    for problem in not_read(table):
        show_warning(problem)
    if table.note:
        typer.echo(f"{printable(table.name)}: {printable(table.note)}", err=True)
    made = write(table, form, output)
    if not is_standard_output(output):
        typer.echo(made)
