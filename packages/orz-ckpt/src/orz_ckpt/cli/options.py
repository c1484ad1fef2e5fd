"""Options that several commands share."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from orz_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

_GLOBAL: Final = re.compile(r"\w+(\.\w+)+")


class Format(StrEnum):
    """How a report is written."""

    TEXT = "text"
    JSON = "json"
    JUNIT = "junit"
    SARIF = "sarif"
    GITHUB = "github"


class PlainFormat(StrEnum):
    """How a command writes what it shows where it judges nothing."""

    TEXT = "text"
    JSON = "json"


class FailOn(StrEnum):
    """From which severity on a finding fails the command."""

    ERROR = "error"
    WARN = "warn"


FormatOption = Annotated[Format, typer.Option("--format", help="How to write the report.")]
PlainFormatOption = Annotated[PlainFormat, typer.Option("--format", help="How to write it.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Short for --format json.")]
FailOnOption = Annotated[FailOn, typer.Option(help="Fail from this severity on.")]


def _named(context: Any, parameter: Any, value: str) -> str:
    """Return the tag that was given, as the `callback` of its option; empty where none was.

    Raises:
        UsageError: an empty one was given, as by a variable that is not set: it would be taken for none.
    """
    if not value and context.get_parameter_source(parameter.name).name == "COMMANDLINE":
        raise UsageError("--tag: the name is empty", remedy="leave --tag out for the one that `latest` names")
    return value


TagOption = Annotated[
    str,
    typer.Option(
        callback=_named,
        metavar="TAG",
        help="Of a DeepSpeed folder: which checkpoint; `latest` by default.",
        show_default=False,
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


def allowed(inert: list[str] | None) -> frozenset[str]:
    """Return the names that `--inert` gives.

    Raises:
        UsageError: one is no name of a global.
    """
    for name in inert or ():
        if not _GLOBAL.fullmatch(name):
            raise UsageError(f"--inert {name!a}: expected MODULE.NAME", remedy="as in --inert mypackage.state.Config")
    return frozenset(inert or ())


def spelled(options: Mapping[str, object]) -> tuple[str, ...]:
    """Return the words of `options` as they are given again, from whatever folder; None and empty ones were not given.

    Args:
        options: name -> its value, or a list of them.
    """
    words: list[str] = []
    for name, value in options.items():
        for one in value if isinstance(value, list) else [value]:
            if one is not None and one != "":
                words += [name, str(one.absolute() if isinstance(one, Path) else one)]
    return tuple(words)


def chosen_format(output: Format, *, as_json: bool) -> Format:
    """Return the format that `--format` and its short form `--json` ask for together.

    Raises:
        UsageError: they contradict each other.
    """
    if as_json and output not in {Format.TEXT, Format.JSON}:
        raise UsageError(f"--json and --format {output} exclude each other", remedy="give one of them")
    return Format.JSON if as_json else output
