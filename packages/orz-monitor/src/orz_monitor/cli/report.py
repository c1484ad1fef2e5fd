"""`orz monitor report`: a run as one page."""

# ruff: noqa: PLC0415  commands import what they need, so that `orz --help` loads no numpy
from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orz_monitor.addresses import located
from orz_monitor.cli.options import ConfigOption, DialectOption, PresetOption, RuleOption, dialects_with


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(
            parser=located, metavar="RUN", help="Run folders, logs, or what other tools keep.", show_default=False
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="A .html, .md or .json file, by default report.html in the run folder, of a URL here; - is standard "
            "output; of several runs, a folder.",
        ),
    ] = None,
    *,
    preset: PresetOption = "",
    config: ConfigOption = None,
    rule: RuleOption = None,
    dialect: DialectOption = "",
) -> None:
    """Write a run as one page: verdict, findings, charts of every metric, where the time went.

    The page is one file and needs no network. Its path goes to stdout. Several runs have a page each, in the folder
    that --output names.
    """
    from orz_monitor.judge import Judge
    from orz_monitor.publishing import is_standard_output, refuse_inputs
    from orz_monitor.report.writing import targets_of, write_report

    judge = Judge.of(preset=preset, config=config, users=rule or ())
    dialects = dialects_with(dialect)
    targets = targets_of(runs, output)
    for page in filter(None, targets):
        refuse_inputs(page, runs)
    for run, target in zip(runs, targets, strict=True):
        made = write_report(run, target, judge=judge, dialects=dialects)
        if not is_standard_output(made):
            typer.echo(made)
