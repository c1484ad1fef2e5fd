"""The reference page of commands, `docs/reference/monitor-commands.md`, made from the commands themselves."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any, Final, get_args, get_origin, get_type_hints

import typer
from typer.models import ArgumentInfo, OptionInfo

from orz_cli.exits import EXIT_CODES_HELP
from orz_cli.numbers import PLACEHOLDERS
from orz_monitor.cli import app

_INTRODUCTION: Final = f"""\
# Commands of orz monitor

<!-- Made from orz_monitor.cli by orz_monitor.cli.page; edit the commands, not this page. -->

Data goes to stdout, everything else to stderr; colours on a terminal only, and never with `NO_COLOR`.
{EXIT_CODES_HELP}
"""
_WORDS: Final = {Path: "PATH", str: "TEXT", int: PLACEHOLDERS["int"], float: PLACEHOLDERS["float"]}


def commands_page(commands: typer.Typer = app) -> str:
    """Return the page as Markdown, the commands in the order of `orz monitor --help`."""
    callbacks = [info.callback for info in commands.registered_commands if info.callback is not None]
    return "\n".join([_INTRODUCTION, *(_command(callback) for callback in callbacks)])


def _command(callback: Callable[..., Any]) -> str:
    """Describe one command: what it does, how it is called, its arguments and options."""
    hints = get_type_hints(callback, include_extras=True)
    arguments, options, usage = [], [], [f"orz monitor {callback.__name__}"]
    for name, parameter in inspect.signature(callback).parameters.items():
        kind, info = get_args(hints[name])[:2]
        required = parameter.default is inspect.Parameter.empty
        if isinstance(info, ArgumentInfo):
            shown = info.metavar or name.upper()
            usage.append(shown + ("..." if get_origin(kind) is list and not shown.endswith("...") else ""))
            arguments.append(f"| `{_cell(shown)}` | {_prose(info.help)} |")
        elif isinstance(info, OptionInfo):
            names = _names(info) or [f"--{name.replace('_', '-')}"]
            value = _value(kind, info)
            if required:
                usage.append(f"{names[0]} {value}")
            default = "required" if required else _default(parameter.default)
            called = ", ".join(f"`{each}`" for each in names) + (f" `{_cell(value)}`" if value else "")
            options.append(f"| {called} | {_prose(info.help)} | {default} |")
    parts = [f"## orz monitor {callback.__name__}", "", f"```\n{' '.join([*usage, '[OPTIONS]'])}\n```", ""]
    parts += [inspect.getdoc(callback) or "", ""]
    parts += ["| argument | what it is |", "|---|---|", *arguments, ""]
    if options:
        parts += ["| option | what it does | default |", "|---|---|---|", *options, ""]
    return "\n".join(parts)


def _names(info: OptionInfo) -> list[str]:
    """Return the names that an option was given; in `Annotated`, typer keeps the first one as the default."""
    return [each for each in (info.default, *(info.param_decls or ())) if isinstance(each, str) and each[:1] == "-"]


def _value(kind: object, info: OptionInfo) -> str:
    """Return what stands for an option's value; nothing for a switch."""
    if isinstance(kind, types.UnionType):
        kind = next(part for part in get_args(kind) if part is not type(None))
    if kind is bool:
        return ""
    if info.metavar:
        return info.metavar
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "|".join(str(choice.value) for choice in kind)
    if get_origin(kind) is list:
        kind = get_args(kind)[0]
    return next((word for known, word in _WORDS.items() if kind is known), "VALUE")


def _default(value: object) -> str:
    """Return an option's default as the page shows it."""
    if value is None or value is False:
        return ""
    return f"`{value.value if isinstance(value, Enum) else value}`"


def _prose(text: str | None) -> str:
    """Return a sentence for a cell; what stands in angle brackets is no markup."""
    return _cell(text or "").replace("<", "&lt;")


def _cell(text: str) -> str:
    """Return text for a cell of a table."""
    return text.replace("|", "\\|").replace("\n", " ")
