"""The commands of `orz`: found by the entry points that packages declare, loaded one by one.

A package brings a command by naming a function or a typer app in its metadata::

    [project.entry-points."orz.commands"]
    monitor = "orz_monitor.cli:app"
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import typer
from typer.main import get_command, get_command_name, get_group

from orz_cli.entry_points import EntryPoint, declared
from orz_cli.errors import UsageError
from orz_cli.exits import EXIT_CODES_HELP
from orz_cli.help_text import choices_for_terminals, for_terminals
from orz_cli.numbers import placeholder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from typer.core import MarkupMode, TyperGroup
    from typer.models import CommandInfo

ENTRY_POINT_GROUP = "orz.commands"

HOME_PACKAGES = {
    "ckpt": "orz-ckpt",
    "doctor": "orz-cli",
    "monitor": "orz-monitor",
    "plan": "orz-train",
    "train": "orz-train",
}
"""Our own commands and the packages they come in, installed or not."""


class CommandError(UsageError):
    """A command is installed but cannot be loaded."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """One command as its package declares it; nothing is imported until `load`."""

    name: str
    package: str
    version: str
    entry_point: EntryPoint

    def load(self, markup: MarkupMode, asked: str = "") -> Any:
        """Import the command and return it as the click command that typer makes of it.

        Args:
            markup: how help texts are rendered: "rich" on a terminal, None in a pipe.
            asked: the argument after the command; where it names a sub-command, the others are left out.

        Raises:
            CommandError: the import failed, or what was imported is no command.
        """
        try:
            loaded = _build(self.name, _with_only(asked, self.entry_point.load()), markup)
        # Whatever a plug-in's import does, even leave the interpreter, the other commands must go on.
        except (Exception, SystemExit) as error:
            reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            message = f"`orz {self.name}` is not available: {self.package} {self.version} cannot be loaded: {reason}"
            raise CommandError(message, remedy=self._repair(error)) from error
        _tidy_help(loaded, markup)
        return loaded

    def _repair(self, error: BaseException) -> str:
        pin = f"{self.package}=={self.version}"
        own = self.entry_point.module.partition(".")[0]
        if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] != own:
            return f"install what it needs: python -m pip install {pin}"
        return f"repair it: python -m pip install --force-reinstall --no-deps {pin}"


def discover(entry_points: Iterable[EntryPoint] | None = None) -> tuple[dict[str, Command], list[str]]:
    """Find the commands of all installed packages, without importing any.

    A name that two packages claim goes to the package it belongs to, otherwise to the first in alphabetical order.

    Args:
        entry_points: where to look; those of the installed packages by default.

    Returns:
        The commands by name, sorted, and one warning for each claim that lost.
    """
    found = declared(ENTRY_POINT_GROUP) if entry_points is None else entry_points
    commands: dict[str, Command] = {}
    warnings = []
    for candidate in sorted(map(_describe, found), key=_precedence):
        winner = commands.setdefault(candidate.name, candidate)
        if winner.package != candidate.package:
            warnings.append(
                f"{candidate.package} {candidate.version} also brings `orz {candidate.name}`; "
                f"the one of {winner.package} is used"
            )
    return commands, warnings


def unavailable(command: Command, error: CommandError, markup: MarkupMode) -> Any:
    """Return a stand-in for a command that cannot be loaded: listed with the reason, and running it raises `error`."""

    def explain() -> None:
        raise error

    return _build(command.name, explain, markup, help_text=f"Not available: {error.__cause__}")


def _describe(entry_point: EntryPoint) -> Command:
    return Command(
        name=entry_point.name,
        package=entry_point.package,
        version=entry_point.version,
        entry_point=entry_point,
    )


def _precedence(command: Command) -> tuple[str, bool, str]:
    return command.name, HOME_PACKAGES.get(command.name) != command.package, command.package


def _with_only(asked: str, loaded: object) -> object:
    """Return an app without the commands that are not asked for: to make them all takes a tenth of a start."""
    if not isinstance(loaded, typer.Typer) or loaded.info.chain is True:
        return loaded
    kept = [command for command in loaded.registered_commands if _name_of(command) == asked]
    if not kept:
        return loaded
    app = copy(loaded)
    app.registered_commands = kept
    return app


def _name_of(command: CommandInfo) -> str:
    """Return how a command is called, as typer makes it up where its author did not."""
    return command.name or get_command_name(command.callback.__name__ if command.callback else "")


def _build(name: str, loaded: object, markup: MarkupMode, help_text: str | None = None) -> Any:
    if isinstance(loaded, typer.Typer):
        loaded.rich_markup_mode = markup
        group: TyperGroup = get_group(loaded)
        group.name = name
        return group
    if not callable(loaded):
        message = f"expected a function or a typer.Typer, got {type(loaded).__name__}"
        raise TypeError(message)
    app = typer.Typer(add_completion=False, rich_markup_mode=markup)
    app.command(name, help=help_text)(loaded)
    return get_command(app)


def _tidy_help(command: Any, markup: MarkupMode) -> None:
    """End the help of a command and of its sub-commands with the exit codes, where no other epilog stands.

    An argument with a name of its own is listed under that alone; typer adds its Python type, as `<str>`. Where it
    takes several words, the usage line says so. An option for a number takes `N`, and no `<int range>`. On a terminal
    texts are wrapped where it ends.
    """
    command.epilog = command.epilog or EXIT_CODES_HELP
    on_terminal = markup == "rich"
    if on_terminal:
        command.help = for_terminals(command.help)
    for parameter in command.params:
        if on_terminal:
            parameter.help = for_terminals(parameter.help)
        if parameter.param_type_name == "argument" and parameter.metavar:
            parameter.type = copy(parameter.type)  # typer shares it among parameters
            parameter.type.get_metavar = _no_type
            if parameter.nargs != 1:
                parameter.make_metavar = partial(_with_dots, parameter.make_metavar)
        elif parameter.param_type_name == "option":
            parameter.metavar = parameter.metavar or placeholder(parameter.type) or None
            if on_terminal:
                parameter.metavar = parameter.metavar or choices_for_terminals(parameter.type) or None
    for child in getattr(command, "commands", {}).values():
        _tidy_help(child, markup)


def _no_type(**_: object) -> str:
    """Stand in for what names a parameter's type in typer's help."""
    return ""


def _with_dots(make_metavar: Callable[..., str], ctx: object, *, usage: bool = False) -> str:
    """Stand in for what names an argument of several words: typer forgets the dots where a metavar is set."""
    name = make_metavar(ctx, usage=usage)
    return f"{name}..." if usage and not name.rstrip("]}").endswith("...") else name
