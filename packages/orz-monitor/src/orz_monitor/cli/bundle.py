"""`orz monitor bundle`: what maintainers ask for, in one archive."""

# ruff: noqa: PLC0415  commands import what they need, so that `orz --help` loads no numpy
from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orz_monitor.addresses import located, real
from orz_monitor.cli.options import DialectOption, dialects_with


def bundle(
    run: Annotated[
        Path,
        typer.Argument(parser=located, metavar="RUN", help="A run folder, or a log on its own.", show_default=False),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="A .zip or .tar.gz file, - for standard output; by default <run>-bundle.zip here.",
            show_default=False,
        ),
    ] = None,
    *,
    redact_emails: Annotated[bool, typer.Option("--redact-emails", help="Leave out e-mail addresses, too.")] = False,
    dialect: DialectOption = "",
) -> None:
    """Collect configuration, versions, findings and the ends of all logs of a run, with secrets left out.

    Keys, tokens, passwords and addresses with credentials are replaced by what they were; README.txt in the archive
    counts them. No list of patterns knows every secret: look through the archive before you send it.
    The path goes to stdout, what was redacted to stderr.
    """
    from orz_monitor.bundle.archive import listing, write_bundle
    from orz_monitor.bundle.contents import collect
    from orz_monitor.bundle.redaction import Redactor
    from orz_monitor.publishing import is_standard_output, refuse_inputs

    target = output if output is not None else Path(f"{real(run).name}-bundle.zip")
    refuse_inputs(target, [run])
    redactor = Redactor(emails=redact_emails)
    items, left_out = collect(run, redactor, dialects_with(dialect))
    write_bundle(target, items, redactor.counts, left_out)
    typer.echo(listing(items, redactor.counts, left_out), err=True)
    if not is_standard_output(target):
        typer.echo(target)
