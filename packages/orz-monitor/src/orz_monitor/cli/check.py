"""`orz monitor check`: judge runs, for people and for CI."""

# ruff: noqa: PLC0415  commands import what they need, so that `orz --help` loads no numpy
from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orz_cli.errors import UsageError
from orz_cli.findings import Severity
from orz_monitor.addresses import located
from orz_monitor.cli.options import ConfigOption, DialectOption, PresetOption, RuleOption, dialects_with
from orz_monitor.formats import Format

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orz_monitor.dialects import Dialect
    from orz_monitor.formats.document import Checked
    from orz_monitor.judge import Judge


class FailOn(StrEnum):
    """From which severity on a finding fails a check."""

    ERROR = "error"
    WARN = "warn"


def check(
    paths: Annotated[
        list[Path],
        typer.Argument(
            parser=located, metavar="PATH", help="Run folders, logs, or what other tools keep.", show_default=False
        ),
    ],
    output: Annotated[Format, typer.Option("--format", help="How to write the result.")] = Format.TEXT,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Short for --format json.")] = False,
    fail_on: Annotated[FailOn, typer.Option(help="Fail from this severity on.")] = FailOn.ERROR,
    preset: PresetOption = "",
    config: ConfigOption = None,
    baseline: Annotated[
        Path | None, typer.Option(parser=located, metavar="RUN", help="A run that this one must not fall behind.")
    ] = None,
    envelope: Annotated[str, typer.Option(metavar="NAME", help="A published course to keep to, such as orz-7b.")] = "",
    rule: RuleOption = None,
    dialect: DialectOption = "",
) -> None:
    """Judge runs by their metrics: NaNs, entropy, KL, reward, length, stalls and more.

    The result goes to stdout. A finding says what was seen, on what evidence, and what to try.
    """
    if as_json and output not in {Format.TEXT, Format.JSON}:
        raise UsageError(f"--json and --format {output} exclude each other", remedy="give one of them")
    from orz_monitor.formats.document import overall
    from orz_monitor.judge import Judge

    severity = Severity(fail_on.value)
    dialects = dialects_with(dialect)
    judge = Judge.of(
        preset=preset, config=config, baseline=baseline, envelope=envelope, users=rule or (), dialects=dialects
    )
    checks = [_checked(path, judge, dialects) for path in paths]
    _write(checks, Format.JSON if as_json else output, severity)
    raise typer.Exit(overall(checks, severity).exit_code)


def _checked(path: Path, judge: Judge, dialects: Sequence[type[Dialect]] | None) -> Checked:
    """Read and judge one path; one that can't be read is a result, too."""
    from orz_monitor.errors import UnreadableRunError
    from orz_monitor.formats.document import Checked
    from orz_monitor.loading import load_run

    try:
        return Checked(path=path, verdict=judge(load_run(path, dialects=dialects), path))
    except UnreadableRunError as error:
        return Checked(path=path, error=error)


def _write(checks: list[Checked], output: Format, severity: Severity) -> None:
    """Write the result to stdout."""
    from orz_cli.output import OutputConsole
    from orz_monitor.formats import document, github, junit, sarif, text

    match output:
        case Format.TEXT:
            text.print_checks(OutputConsole(highlight=False), checks, severity)
        case Format.JSON:
            typer.echo(document.as_json(checks, severity))
        case Format.JUNIT:
            typer.echo(junit.as_junit(checks, severity))
        case Format.SARIF:
            typer.echo(sarif.as_sarif(checks, severity))
        case Format.GITHUB:
            typer.echo(github.as_github(checks, severity))
