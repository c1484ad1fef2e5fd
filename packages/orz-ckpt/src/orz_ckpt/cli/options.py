"""Options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from orz_cli.errors import UsageError


class Format(StrEnum):
    """How a report is written."""

    TEXT = "text"
    JSON = "json"
    JUNIT = "junit"
    SARIF = "sarif"
    GITHUB = "github"


class FailOn(StrEnum):
    """From which severity on a finding fails the command."""

    ERROR = "error"
    WARN = "warn"


FormatOption = Annotated[Format, typer.Option("--format", help="How to write the report.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Short for --format json.")]
FailOnOption = Annotated[FailOn, typer.Option(help="Fail from this severity on.")]
TagOption = Annotated[
    str,
    typer.Option(
        metavar="TAG", help="Of a DeepSpeed folder: which checkpoint; `latest` by default.", show_default=False
    ),
]
InertOption = Annotated[
    list[str] | None,
    typer.Option(
        "--inert",
        metavar="MODULE.NAME",
        help="A global of a pickle that may stand for an object that is never made; may be given several times.",
        show_default=False,
    ),
]


def chosen_format(output: Format, *, as_json: bool) -> Format:
    """Return the format that `--format` and its short form `--json` ask for together.

    Raises:
        UsageError: they contradict each other.
    """
    if as_json and output not in {Format.TEXT, Format.JSON}:
        raise UsageError(f"--json and --format {output} exclude each other", remedy="give one of them")
    return Format.JSON if as_json else output
