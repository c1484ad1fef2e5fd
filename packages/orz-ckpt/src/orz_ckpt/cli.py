"""`orz ckpt`: look after model weights."""
# ruff: noqa: PLC0415  `orz --help` loads this module, and must be back at once

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orz_ckpt.findings import Level
from orz_cli.errors import UsageError
from orz_cli.findings import Severity

if TYPE_CHECKING:
    from orz_ckpt.findings import Report

app = typer.Typer(
    name="ckpt",
    help="Verify checkpoints and model folders.",
    no_args_is_help=True,
    add_completion=False,
)


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


@app.callback()
def _ckpt() -> None:
    """Look after model weights: are they whole, and are they what was written."""


@app.command()
def verify(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH",
            help="A run, a step folder, a role folder in one, a Hugging Face folder, or a .safetensors file.",
            show_default=False,
        ),
    ],
    level: Annotated[
        Level,
        typer.Option(help="quick: names, sizes, headers, index, shapes. full: every byte, too."),
    ] = Level.FULL,
    output: Annotated[Format, typer.Option("--format", help="How to write the report.")] = Format.TEXT,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Short for --format json.")] = False,
    fail_on: Annotated[FailOn, typer.Option(help="Fail from this severity on.")] = FailOn.ERROR,
    require_manifest: Annotated[
        bool, typer.Option("--require-manifest", help="Fail where a folder has no manifest.")
    ] = False,
) -> None:
    """Say whether checkpoints are committed, whole, and byte for byte what was written.

    The manifest is compared with the files: names, sizes, blake3 digests. safetensors headers, the index of
    the shards and the shapes that config.json promises are checked, and all numbers searched for NaN, Inf and
    zeros. Nothing is loaded, no pickle is opened. A run is as good as its newest checkpoint.
    """
    if as_json and output not in {Format.TEXT, Format.JSON}:
        raise UsageError(f"--json and --format {output} exclude each other", remedy="give one of them")
    # Imported here, so that `orz --help` stays fast.
    from orz_ckpt.progress import shown_progress
    from orz_ckpt.verify import verify_all

    with shown_progress() as progress:
        report = verify_all(paths, level=level, require_manifest=require_manifest, progress=progress)
    severity = Severity(fail_on.value)
    _write(report, Format.JSON if as_json else output, severity)
    raise typer.Exit(report.status(severity).exit_code)


def _write(report: Report, output: Format, fail_on: Severity) -> None:
    """Write `report` to stdout."""
    from rich.console import Console

    from orz_ckpt.report.github import to_github
    from orz_ckpt.report.junit import to_junit
    from orz_ckpt.report.sarif import to_sarif
    from orz_ckpt.report.text import to_text

    if output is Format.TEXT:
        Console(highlight=False, soft_wrap=True).print(to_text(report, fail_on), end="")
    elif output is Format.JSON:
        sys.stdout.write(json.dumps(report.to_json(fail_on), indent=2) + "\n")
    elif output is Format.SARIF:
        sys.stdout.write(json.dumps(to_sarif(report, fail_on), indent=2) + "\n")
    elif output is Format.JUNIT:
        sys.stdout.write(to_junit(report, fail_on))
    else:
        sys.stdout.write(to_github(report, fail_on))
