"""The `orz` command: hands over to the command asked for and turns its errors into messages and exit codes."""

from __future__ import annotations

import codecs
import difflib
import errno
import io
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.main import get_group

from orz_cli.commands import HOME_PACKAGES, CommandError, discover, unavailable
from orz_cli.console import show_error, show_warning
from orz_cli.current_folder import current_folder_exists
from orz_cli.errors import OrzError, UsageError
from orz_cli.exits import EXIT_CODES_HELP, ExitCode
from orz_cli.garbage import few_collections
from orz_cli.numbers import refused_number
from orz_cli.stdout import refusals
from orz_cli.versions import ORZ_PACKAGES, installed_versions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from typer.core import MarkupMode

    from orz_cli.commands import Command

_SHOWN = "orz-shown"
"""The name of our error handler: Python wants one."""
_REFUSING = ("strict", "surrogateescape")
"""What a stream does by default with a character that its encoding lacks: an exception in either."""
HELP_OPTIONS = ["-h", "--help"]


def _show_versions(asked: bool) -> None:  # noqa: FBT001  typer calls it with the option's value
    if not asked:
        return
    names = [*ORZ_PACKAGES, *sorted({command.package for command in discover()[0].values()} - set(ORZ_PACKAGES))]
    for name, version in installed_versions(names).items():
        typer.echo(f"{name:<12} {version or 'not installed'}")
    raise typer.Exit


def main(argv: Sequence[str] | None = None) -> int:
    """Run `orz` and return its exit code.

    Args:
        argv: the arguments after the program's name; those of the process by default.
    """
    _replace_closed_streams()
    _show_any_character()
    if _is_repeated():
        show_error(
            "the script that runs `orz` runs it again in every process that `orz` starts",
            'put its call of `orz` below `if __name__ == "__main__":`',
        )
        return ExitCode.USAGE
    with refusals() as refused:
        code = _run(list(sys.argv[1:] if argv is None else argv), refused)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        undecided = _silenced()
        return code or undecided
    except OSError as error:
        undecided = _output_lost(error)
        return code or undecided
    return code


def _is_repeated() -> bool:
    """Return whether this is a process that multiprocessing starts, which runs the script of its parent once more.

    Its own check (`multiprocessing.spawn`, Python 3.11 to 3.13) comes with the first process that is started here, and
    a run starts others before, which would wait for each other forever.
    """
    processes = sys.modules.get("multiprocessing.process")  # such a process has it
    return processes is not None and getattr(processes.current_process(), "_inheriting", False)


def _replace_closed_streams() -> None:
    """Let a standard stream that the caller closed (`orz ... >&-`) lead nowhere; the exit code is the answer then.

    Otherwise the next file that is opened would get its number, and what is printed.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115  for the whole process


def _show_any_character() -> None:
    """Let stdout write as an escape what its encoding lacks, as stderr does: `LC_ALL=C` may mean ASCII.

    Bytes of a path that are no text stay what they are where the stream is set to that.
    """
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors in _REFUSING:
        codecs.register_error(_SHOWN, _shown)
        sys.stdout.reconfigure(errors="backslashreplace" if sys.stdout.errors == "strict" else _SHOWN)


def _shown(error: UnicodeError) -> tuple[str | bytes, int]:
    """Return how characters are written that an encoding lacks: as bytes those that stand for a byte each."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    written = (
        char.encode("ascii", "surrogateescape" if _is_byte(char) else "backslashreplace")
        for char in error.object[error.start : error.end]
    )
    return b"".join(written), error.end


def _is_byte(char: str) -> bool:
    return "\udc80" <= char <= "\udcff"


def _run(args: list[str], refused: Sequence[OSError]) -> int:  # noqa: PLR0911  one return for each way to end
    """Run one command; every way in which it can end becomes a message and an exit code.

    Args:
        args: the arguments after the program's name.
        refused: what writing to stdout met.
    """
    commands: Mapping[str, Command] = {}
    try:
        with few_collections():
            commands, warnings = discover()
            for warning in warnings:
                show_warning(warning)
            root = _root_for(args, commands)
        with root.make_context("orz", args) as context:
            root.invoke(context)
    except typer.Exit as stop:
        return stop.exit_code
    except OrzError as error:
        show_error(error.message, error.remedy)
        return error.exit_code
    except typer.TyperException as error:
        _show_usage_error(error)
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        show_error("interrupted")
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        return _silenced()
    except Exception as error:  # noqa: BLE001  what no command foresaw
        if isinstance(error, OSError) and any(error is met for met in refused):
            return _output_lost(error)
        return _unforeseen(error, commands.get(args[0]) if args else None)
    return ExitCode.OK


def _root_for(args: Sequence[str], commands: Mapping[str, Command]) -> Any:
    """Return the click group of `orz`, with only the command that `args` ask for, or with all of them for a list.

    Raises:
        UsageError: there is no such command, or it cannot be loaded.
    """
    markup: MarkupMode = "rich" if sys.stdout.isatty() else None
    app = typer.Typer(
        add_completion=False,
        no_args_is_help=True,
        rich_markup_mode=markup,
        epilog=EXIT_CODES_HELP,
        context_settings={"help_option_names": HELP_OPTIONS},
    )
    app.callback()(_orz)
    root = get_group(app)
    if args and not args[0].startswith("-"):
        command = _find(args[0], commands)
        asked = args[1] if len(args) > 1 else ""
        root.add_command(command.load(markup, asked), command.name)
        return root
    listed = commands.values() if not args or args[0] in HELP_OPTIONS else ()
    for command in listed:
        try:
            loaded = command.load(markup)
        except CommandError as error:
            show_warning(error.message, error.remedy)
            loaded = unavailable(command, error, markup)
        root.add_command(loaded, command.name)
    return root


def _orz(
    *,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", help="List the orz packages and their versions.", callback=_show_versions, is_eager=True
        ),
    ] = False,
) -> None:
    """Train reasoning models, look after their checkpoints and read their logs."""


def _find(name: str, commands: Mapping[str, Command]) -> Command:
    if name in commands:
        return commands[name]
    if name in HOME_PACKAGES:
        package = HOME_PACKAGES[name]
        message = f"`orz {name}` comes with {package}, which is not installed here"
        raise UsageError(message, remedy=f"python -m pip install {package}")
    nearest = difflib.get_close_matches(name, sorted({*commands, *HOME_PACKAGES}), n=1)
    hint = f"did you mean `orz {nearest[0]}`? " if nearest else ""
    message = f"orz has no command '{name}'"
    raise UsageError(message, remedy=f"{hint}`orz --help` lists all commands")


def _show_usage_error(error: typer.TyperException) -> None:
    context = getattr(error, "ctx", None)
    # The class is private to typer, which compares its name too: a group called without a command shows its help.
    if type(error).__name__ == "NoArgsIsHelpError":
        typer.echo(error.format_message(), err=True)
        return
    command = context.command_path if context is not None else "orz"
    refused = _raised_by_parser(error)
    if refused is None and isinstance(error, typer.BadParameter):
        refused = refused_number(error.param, error.message, command)
    if refused is not None:
        show_error(refused.message, refused.remedy)
        return
    show_error(" ".join(error.format_message().split()), f"{command} --help")  # choices stand in lines of their own


def _raised_by_parser(error: typer.TyperException) -> UsageError | None:
    """Return our own error that a parameter's parser raised: typer puts one in its place that names the value alone."""
    return error.__context__ if isinstance(error.__context__, UsageError) else None


def _unforeseen(error: Exception, command: Command | None) -> int:
    """Explain an error that no command foresaw: the machine's in a line, a bug with its traceback and whom to tell."""
    if isinstance(error, FileNotFoundError) and not current_folder_exists():
        show_error("the current folder no longer exists", "cd to a folder that does")
        return ExitCode.USAGE
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        where = f"where {error.filename} goes" if error.filename else "on a disk that this command writes to"
        show_error(f"no space is left {where}", "free some space and try again")
        return ExitCode.FAILED
    if isinstance(error, MemoryError):
        reason = f": {error}" if str(error) else ""
        show_error(f"there is not enough memory{reason}", "end other programs, or run it on a machine with more")
        return ExitCode.INCONCLUSIVE
    traceback.print_exception(error)
    _show_bug(command)
    return ExitCode.FAILED


def _output_lost(error: OSError) -> int:
    """Say that the output cannot be written.

    Returns:
        "could not decide": what was lost may have held the verdict.
    """
    reason = "no space is left where it goes" if error.errno == errno.ENOSPC else error.strerror or str(error)
    show_error(f"the output cannot be written: {reason}", "send it elsewhere, or free some space, and try again")
    return _silenced()


def _show_bug(command: Command | None) -> None:
    package = f"{command.package} {command.version}" if command is not None else "orz-cli"
    show_error(
        f"unexpected error, a bug in {package} and no mistake of yours",
        f"please report it to the authors of {package}, with the traceback above and the output of `orz doctor`",
    )


def _silenced() -> int:
    """Silence a stdout that takes nothing (`orz ... | head`), so that the interpreter's last flush stays quiet.

    Returns:
        "could not decide": what was cut off may have held the verdict.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return ExitCode.INCONCLUSIVE
